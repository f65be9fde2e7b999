"""LNbits with two accounts, and a merchant that makes its invoices there. First line on stdout: where they are.
Each line on stdin is answered with the payer's balance in millisatoshi; its end ends everything."""
import json, os, signal, socket, sqlite3, subprocess, sys, time, urllib.request

lnbits_python, merchant_python, data = sys.argv[1:4]
here = os.path.dirname(os.path.abspath(__file__))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


port = free_port()
url = f"http://127.0.0.1:{port}"


def call(method, path, body=None, key=None):
    headers = {"content-type": "application/json"} | ({"X-Api-Key": key} if key else {})
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url + path, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


site = subprocess.check_output([lnbits_python, "-c", "import lnbits, os; print(os.path.dirname(os.path.dirname(lnbits.__file__)))"], text=True).strip()
env = os.environ | {
    "LNBITS_DATA_FOLDER": data, "LNBITS_BACKEND_WALLET_CLASS": "FakeWallet", "LNBITS_ADMIN_UI": "false",
    "LNBITS_EXTENSIONS_DEFAULT_INSTALL": "",
}
log = open(os.path.join(data, "log"), "w")
program = os.path.join(os.path.dirname(lnbits_python), "lnbits")
# A shell that starts us in the background has it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Groups of their own: LNbits has children too.
children = [subprocess.Popen([program, "--host", "127.0.0.1", "--port", str(port)], cwd=site, env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)]
try:
    for _ in range(300):
        try:
            call("GET", "/api/v1/health")
            break
        except OSError:
            time.sleep(0.1)
    payer, merchant = (call("POST", "/api/v1/account", {"name": n}) for n in ("payer", "merchant"))
    call("POST", "/api/v1/payments", {"out": False, "amount": 100_000, "memo": "seed"}, payer["inkey"])
    with sqlite3.connect(os.path.join(data, "database.sqlite3")) as database:
        database.execute("update apipayments set status = 'success' where memo = 'seed'")
    stand = subprocess.Popen(
        [merchant_python, os.path.join(here, "server.py"), "--port", "0", "--lnbits", url, "--lnbits-admin", merchant["adminkey"],
         "--lnbits-invoice", merchant["inkey"], "--max-seconds", "300"], stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL, text=True, start_new_session=True)
    children.append(stand)
    ready = json.loads(stand.stdout.readline())
    print(json.dumps({"merchant": ready["url"], "lnbits": url, "key": payer["adminkey"]}), flush=True)
    for _ in sys.stdin:
        print(call("GET", "/api/v1/wallet", key=payer["inkey"])["balance"], flush=True)
finally:
    for child in children:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
