"""Loopback L402 merchant and Lightning wallet for tests.

    python server.py [--port N] [--lnbits URL --lnbits-admin KEY --lnbits-invoice KEY]

Prints one JSON line when ready. Invoices are real, signed BOLT11 strings, but
no network stands behind them: the built-in wallet reveals the preimage of an
invoice that this process made. With --lnbits, a running LNbits (its FakeWallet
backend is enough) makes and pays the invoices instead.

Merchant rules under /toll/* are lightning-toll's. The others mint macaroons
with pymacaroons in the identifier and caveat layout of the L402 documents.
"""

import argparse
import asyncio
import base64
import hashlib
import hmac
import json
import os
import signal
import socket
import struct
import sys
import threading
import time

import httpx
import uvicorn
from bolt11 import Bolt11, MilliSatoshi, decode, encode
from bolt11.models.features import Feature, Features, FeatureState
from bolt11.models.tags import TagChar, Tags
from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from lightning_toll import create_toll
from lightning_toll.nwc import InvoiceResult
from pymacaroons import Macaroon, Verifier

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, default=int(os.environ.get("STAND_PORT", "0")))
parser.add_argument("--max-seconds", type=int, default=3600)
parser.add_argument("--lnbits")
parser.add_argument("--lnbits-admin")
parser.add_argument("--lnbits-invoice")
args = parser.parse_args()

SECRET = "stand-l402-secret-of-more-than-32-bytes"
NODE_KEY = hashlib.sha256(b"stand-l402 node key").hexdigest()
HRP = {"mainnet": "bc", "regtest": "bcrt", "signet": "tbs"}

invoices: dict[str, dict] = {}  # payment_hash -> {preimage, bolt11, amount_msat, paid}
log: list[dict] = []


def make_invoice(amount_msat: int | None, memo: str, expiry: int = 600, network: str = "mainnet", made: int | None = None) -> dict:
    preimage = os.urandom(32)
    payment_hash = hashlib.sha256(preimage).hexdigest()
    tags = Tags()
    tags.add(TagChar.payment_hash, payment_hash)
    tags.add(TagChar.payment_secret, os.urandom(32).hex())
    tags.add(TagChar.description, memo)
    tags.add(TagChar.expire_time, expiry)
    tags.add(TagChar.min_final_cltv_expiry, 18)
    # Strict parsers refuse an invoice with a payment secret that does not announce it.
    required = {Feature.var_onion_optin: FeatureState.required, Feature.payment_secret: FeatureState.required}
    tags.add(TagChar.features, Features.from_feature_list(required))
    invoice = Bolt11(
        currency=HRP[network],
        amount_msat=MilliSatoshi(amount_msat) if amount_msat is not None else None,
        date=made or int(time.time()),
        tags=tags,
    )
    entry = {
        "payment_hash": payment_hash,
        "preimage": preimage.hex(),
        "bolt11": encode(invoice, NODE_KEY),
        "amount_msat": amount_msat,
        "expires": (made or int(time.time())) + expiry,
        "paid": False,
    }
    invoices[payment_hash] = entry
    return entry


async def new_invoice(sats: int, memo: str, **more) -> dict:
    if not args.lnbits:
        return make_invoice(sats * 1000, memo, **more)
    async with httpx.AsyncClient() as client:
        answer = await client.post(
            f"{args.lnbits}/api/v1/payments",
            headers={"X-Api-Key": args.lnbits_invoice},
            json={"out": False, "amount": sats, "memo": memo, "expiry": more.get("expiry", 600)},
        )
    answer.raise_for_status()
    data = answer.json()
    entry = {"payment_hash": data["payment_hash"], "bolt11": data["bolt11"], "amount_msat": sats * 1000, "preimage": None, "paid": None}
    invoices[entry["payment_hash"]] = entry
    return entry


class TollWallet:
    """The wallet lightning-toll asks for invoices."""

    async def create_invoice(self, amount_sats: int, description: str = "", expiry: int = 300):
        entry = await new_invoice(amount_sats, description, expiry=expiry)
        return InvoiceResult(invoice=entry["bolt11"], payment_hash=entry["payment_hash"])

    async def wait_for_payment(self, payment_hash: str, timeout_ms: int = 0):
        raise NotImplementedError


# --- macaroons in the layout of the L402 documents -------------------------------

def root_key(identifier: bytes) -> str:
    return hmac.new(SECRET.encode(), identifier, hashlib.sha256).hexdigest()


def mint(payment_hash: str, caveats: list[str]) -> str:
    identifier = struct.pack(">H", 0) + bytes.fromhex(payment_hash) + os.urandom(32)
    macaroon = Macaroon(location="stand", identifier=identifier, key=root_key(identifier), version=2)
    for caveat in caveats:
        macaroon.add_first_party_caveat(caveat)
    raw = macaroon.serialize()
    binary = base64.urlsafe_b64decode(raw + "=" * (-len(raw) % 4))
    return base64.b64encode(binary).decode()


def check(authorization: str | None, path: str) -> tuple[bool, str]:
    if not authorization:
        return False, "no credential"
    scheme, _, rest = authorization.partition(" ")
    if scheme.upper() not in ("L402", "LSAT"):
        return False, "other scheme"
    token, _, preimage = rest.strip().rpartition(":")
    try:
        macaroon = Macaroon.deserialize(base64.urlsafe_b64encode(base64.b64decode(token)).decode().rstrip("="))
        identifier = macaroon.identifier_bytes
        payment_hash = identifier[2:34].hex()
        if hashlib.sha256(bytes.fromhex(preimage)).hexdigest() != payment_hash:
            return False, "preimage does not match"
    except Exception as error:  # noqa: BLE001
        return False, f"malformed: {error}"
    problems: list[str] = []

    def satisfied(caveat: str) -> bool:
        condition, _, value = caveat.partition("=")
        if condition.endswith("_valid_until") and time.time() >= float(value):
            problems.append("expired")
            return False
        if condition == "path" and value != path:
            problems.append("other path")
            return False
        return True

    verifier = Verifier()
    verifier.satisfy_general(satisfied)
    try:
        verifier.verify(macaroon, root_key(identifier))
    except Exception as error:  # noqa: BLE001
        return False, problems[0] if problems else f"not verified: {error}"
    return True, "ok"


app = FastAPI()
toll = create_toll(wallet=TollWallet(), secret=SECRET, default_sats=10, macaroon_expiry=3600)
toll_brief = create_toll(wallet=TollWallet(), secret=SECRET, default_sats=10, macaroon_expiry=2)


@app.middleware("http")
async def record(request: Request, call_next):
    response = await call_next(request)
    if not request.url.path.startswith("/_stand"):
        log.append({
            "method": request.method, "path": request.url.path, "status": response.status_code,
            "hasCredential": (request.headers.get("authorization") or "").upper().startswith(("L402 ", "LSAT ")),
        })
    return response


@app.get("/free")
async def free():
    return {"ok": True}


# The package annotates its dependency's request loosely, so FastAPI gets a typed wrapper.
def toll_gate(gate, **options):
    dependency = gate(**options)

    async def run(request: Request):
        return await dependency(request)

    return Depends(run)


@app.get("/toll/basic")
async def toll_basic(payment=toll_gate(toll, sats=10, description="one call")):
    return {"ok": True, "paid": payment.get("paid")}


@app.post("/toll/basic")
async def toll_basic_post(request: Request, payment=toll_gate(toll, sats=10, description="one post")):
    return {"ok": True, "bytes": len(await request.body())}


@app.get("/toll/brief")
async def toll_short(payment=toll_gate(toll_brief, sats=3, description="two seconds")):
    return {"ok": True}


def challenge(lines: list[str], status: int = 402, body: str = "payment required\n") -> Response:
    response = Response(body, status_code=status, media_type="text/plain")
    response.headers["cache-control"] = "no-store"
    for line in lines:
        response.raw_headers.append((b"www-authenticate", line.encode("latin-1")))
    return response


async def offer(request: Request, sats: int = 10, caveats: list[str] | None = None, style: str = "current", **invoice) -> Response:
    entry = await new_invoice(sats, f"stand {request.url.path}", **invoice)
    token = mint(entry["payment_hash"], caveats if caveats is not None else ["services=stand:0"])
    old = f'macaroon="{token}", invoice="{entry["bolt11"]}"'
    lines = {
        "current": [f'L402 version="0", token="{token}", invoice="{entry["bolt11"]}"'],
        "aperture": [f"LSAT {old}", f"L402 {old}"],
        "both-keys": [f'L402 version="0", token="{token}", macaroon="{token}", invoice="{entry["bolt11"]}"'],
        "invoice-first": [f'L402 invoice="{entry["bolt11"]}", macaroon="{token}"'],
        "merged": [f'Basic realm="x, L402 y", LSAT {old}, L402 {old}'],
    }[style]
    return challenge(lines)


async def gated(request: Request, unauthorized: int = 402, **how) -> Response:
    ok, why = check(request.headers.get("authorization"), request.url.path)
    if ok:
        return JSONResponse({"ok": True, "path": request.url.path})
    if request.headers.get("authorization") and unauthorized == 401:
        return Response(f"{why}\n", status_code=401)
    return await offer(request, **how)


@app.api_route("/l402/current", methods=["GET", "POST"])
async def current(request: Request):
    return await gated(request)


@app.get("/l402/aperture")
async def aperture(request: Request):
    return await gated(request, style="aperture")


@app.get("/l402/both-keys")
async def both_keys(request: Request):
    return await gated(request, style="both-keys")


@app.get("/l402/merged")
async def merged(request: Request):
    return await gated(request, style="merged")


@app.get("/l402/shared/{name}")
async def shared(request: Request, name: str):
    return await gated(request, caveats=["services=stand:0"])


@app.get("/l402/per-path/{name}")
async def per_path(request: Request, name: str):
    return await gated(request, caveats=["services=stand:0", f"path={request.url.path}"])


@app.get("/l402/expiring")
async def expiring(request: Request):
    return await gated(request, caveats=["services=stand:0", f"stand_valid_until={int(time.time()) + 2}"])


@app.get("/l402/expiring-401")
async def expiring_401(request: Request):
    return await gated(request, unauthorized=401, caveats=["services=stand:0", f"stand_valid_until={int(time.time()) + 2}"])


@app.get("/fault/amountless")
async def amountless(request: Request):
    entry = make_invoice(None, "any amount")
    return challenge([f'L402 version="0", token="{mint(entry["payment_hash"], [])}", invoice="{entry["bolt11"]}"'])


@app.get("/fault/huge")
async def huge(request: Request):
    return await offer(request, sats=50_000_000)


@app.get("/fault/sub-sat")
async def sub_sat(request: Request):
    ok, _ = check(request.headers.get("authorization"), request.url.path)
    if ok:
        return JSONResponse({"ok": True})
    entry = make_invoice(1500, "1.5 sat")
    return challenge([f'L402 version="0", token="{mint(entry["payment_hash"], [])}", invoice="{entry["bolt11"]}"'])


@app.get("/fault/expired-invoice")
async def expired_invoice(request: Request):
    entry = make_invoice(10_000, "stale", expiry=60, made=int(time.time()) - 3600)
    return challenge([f'L402 version="0", token="{mint(entry["payment_hash"], [])}", invoice="{entry["bolt11"]}"'])


@app.get("/fault/regtest")
async def regtest(request: Request):
    return await gated(request, network="regtest")


@app.get("/fault/foreign-hash")
async def foreign_hash(request: Request):
    """The token commits to another payment hash than the invoice's."""
    entry = make_invoice(10_000, "mismatch")
    return challenge([f'L402 version="0", token="{mint(os.urandom(32).hex(), [])}", invoice="{entry["bolt11"]}"'])


@app.get("/fault/opaque-token")
async def opaque_token(request: Request):
    """The token is no macaroon at all; the client must carry it unread."""
    entry = await new_invoice(10, "opaque token")
    token = "v1.eyJoIjoi" + entry["payment_hash"][:16] + "In0.0f0f"
    auth = request.headers.get("authorization") or ""
    if auth.startswith("L402 v1."):
        return JSONResponse({"ok": True})
    return challenge([f'L402 version="0", token="{token}", invoice="{entry["bolt11"]}"'])


@app.get("/fault/bad-invoice")
async def bad_invoice(request: Request):
    return challenge(['L402 version="0", token="AGIA", invoice="lnbc1notaninvoice"'])


@app.get("/fault/no-invoice")
async def no_invoice(request: Request):
    return challenge(['L402 version="0", token="AGIA"'])


@app.get("/fault/always-402")
async def always_402(request: Request):
    return await offer(request)


@app.get("/fault/paid-500")
async def paid_500(request: Request):
    ok, _ = check(request.headers.get("authorization"), request.url.path)
    if ok:
        return Response("broken after payment\n", status_code=500)
    return await offer(request)


@app.get("/_stand/state")
async def state():
    return {"invoices": len(invoices), "paid": sum(1 for e in invoices.values() if e["paid"]),
            "paid_msat": sum(e["amount_msat"] or 0 for e in invoices.values() if e["paid"])}


@app.get("/_stand/log")
async def stand_log():
    return log


def main() -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", args.port))
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    ready = {
        "ready": True, "protocol": "l402", "url": url, "invoices": "lnbits" if args.lnbits else "built-in",
        "routes": sorted({route.path for route in app.routes if route.path.startswith(("/free", "/toll", "/l402", "/fault"))}),
    }
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))

    async def run():
        task = asyncio.create_task(server.serve(sockets=[sock]))
        while not server.started:
            await asyncio.sleep(0.02)
        print(json.dumps(ready), flush=True)
        await task

    threading.Timer(args.max_seconds, lambda: os.kill(os.getpid(), signal.SIGTERM)).start() if args.max_seconds else None
    try:
        asyncio.run(run())
    finally:
        os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
