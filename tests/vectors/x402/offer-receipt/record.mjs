// Signs offers and receipts with the official package, for tests that verify them.
//   npm install --no-save @x402/extensions@2.27.0 viem jose && node record.mjs > signed.json
import * as jose from "jose";
import { privateKeyToAccount } from "viem/accounts";
import { secp256k1 } from "@noble/curves/secp256k1";
import {
  createEIP712OfferReceiptIssuer,
  createJWSOfferReceiptIssuer,
} from "@x402/extensions/offer-receipt";

// Everything is signed at one moment: 2026-01-01T00:00:00Z.
const now = 1767225600;
Date.now = () => now * 1000;

const url = "https://api.example.com/v1/x";
const payer = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";
const transaction = `0x${"ab".repeat(32)}`;
const terms = {
  acceptIndex: 0,
  scheme: "exact",
  network: "eip155:84532",
  asset: "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
  payTo: "0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045",
  amount: "10000",
  offerValiditySeconds: 300,
};

async function issued(issuer) {
  return {
    offer: await issuer.issueOffer(url, terms),
    receipt: await issuer.issueReceipt(url, payer, terms.network, transaction),
    receipt_without_transaction: await issuer.issueReceipt(url, payer, terms.network),
  };
}

const account = privateKeyToAccount(`0x${"11".repeat(32)}`);
const signed = [
  {
    key: { address: account.address },
    ...(await issued(
      createEIP712OfferReceiptIssuer("did:web:api.example.com#key-1", (data) =>
        account.signTypedData(data),
      ),
    )),
  },
];
for (const algorithm of ["ES256", "EdDSA"]) {
  const { publicKey, privateKey } = await crypto.subtle.generateKey(
    algorithm === "EdDSA" ? { name: "Ed25519" } : { name: "ECDSA", namedCurve: "P-256" },
    true,
    ["sign", "verify"],
  );
  const how = algorithm === "EdDSA" ? { name: "Ed25519" } : { name: "ECDSA", hash: "SHA-256" };
  const { kty, crv, x, y } = await crypto.subtle.exportKey("jwk", publicKey);
  const sign = async (input) =>
    jose.base64url.encode(new Uint8Array(await crypto.subtle.sign(how, privateKey, input)));
  const signer = { kid: "did:web:api.example.com#key-1", format: "jws", algorithm, sign };
  signed.push({ key: { jwk: { kty, crv, x, y } }, ...(await issued(createJWSOfferReceiptIssuer(signer.kid, signer))) });
}
{
  const secret = new Uint8Array(32).fill(0x22);
  const point = secp256k1.getPublicKey(secret, false);
  const part = (from) => jose.base64url.encode(point.slice(from, from + 32));
  const sign = async (input) => {
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", input));
    return jose.base64url.encode(secp256k1.sign(digest, secret).toCompactRawBytes());
  };
  const signer = { kid: "did:web:api.example.com#key-1", format: "jws", algorithm: "ES256K", sign };
  const jwk = { kty: "EC", crv: "secp256k1", x: part(1), y: part(33) };
  signed.push({ key: { jwk }, ...(await issued(createJWSOfferReceiptIssuer(signer.kid, signer))) });
}
console.log(JSON.stringify({ package: "@x402/extensions 2.27.0", now, url, payer, transaction, terms, signed }, null, 1));
