//! What Permit2 would see in a payload: an independent reading of its typed data, and of the calls that
//! take the money through x402's proxies.

use serde_json::Value;

use super::chain::{Domain, Transfer, address, bytes, keccak, word};

pub(crate) const PERMIT2: &str = "0x000000000022d473030f116ddee9f6b43ac78ba3";
pub(crate) const EXACT_PROXY: &str = "0x402085c248eea27d92e8b30b2c58ed07f9e20001";
pub(crate) const UPTO_PROXY: &str = "0x4020a4f3b7b90cca423b9fabcc0ce57c6c240002";

/// What a signed transfer by Permit2 says besides.
#[derive(Clone, Debug)]
pub(crate) struct Permit {
    pub(crate) token: String,
    pub(crate) spender: String,
    pub(crate) facilitator: Option<String>,
}

/// From a decoded payment: `{…, "payload": {"permit2Authorization": {…}, "signature": "0x…"}}`.
pub(super) fn of(payment: &Value) -> Option<Transfer> {
    let a = &payment["payload"]["permit2Authorization"];
    let text = |v: &Value| v.as_str().map(str::to_owned);
    let (permitted, witness) = (&a["permitted"], &a["witness"]);
    Some(Transfer {
        from: text(&a["from"])?,
        to: text(&witness["to"])?,
        value: text(&permitted["amount"])?.parse().ok()?,
        valid_after: text(&witness["validAfter"])?.parse().ok()?,
        valid_before: text(&a["deadline"])?.parse().ok()?,
        nonce: number(a["nonce"].as_str()?)?,
        signature: payment["payload"]["signature"].as_str()?.to_owned(),
        permit: Some(Permit {
            token: text(&permitted["token"])?,
            spender: text(&a["spender"])?,
            facilitator: text(&witness["facilitator"]),
        }),
    })
}

/// Decimal digits as `0x` and 64 hexadecimal ones.
fn number(digits: &str) -> Option<String> {
    let mut number = [0_u8; 32];
    for digit in digits.bytes() {
        let mut carry = u32::from(digit.checked_sub(b'0').filter(|d| *d < 10)?);
        for byte in number.iter_mut().rev() {
            let value = u32::from(*byte) * 10 + carry;
            *byte = u8::try_from(value & 0xff).ok()?;
            carry = value >> 8;
        }
        (carry == 0).then_some(())?;
    }
    Some(format!("0x{}", hex::encode(number)))
}

impl Permit {
    /// What is signed, when only x402's own proxy may spend this token.
    pub(super) fn digest(&self, transfer: &Transfer, domain: &Domain) -> Option<[u8; 32]> {
        let proxy = match self.facilitator {
            None => EXACT_PROXY,
            Some(_) => UPTO_PROXY,
        };
        let ours = self.spender.eq_ignore_ascii_case(proxy);
        if !ours || !self.token.eq_ignore_ascii_case(&domain.token) {
            return None;
        }
        let separator = keccak(&[
            &keccak(&[b"EIP712Domain(string name,uint256 chainId,address verifyingContract)"]),
            &keccak(&[b"Permit2"]),
            &word(u128::from(domain.chain)),
            &address(PERMIT2)?,
        ]);
        let tokens = "TokenPermissions(address token,uint256 amount)";
        let kind = match self.facilitator {
            None => "Witness(address to,uint256 validAfter)",
            Some(_) => "Witness(address to,address facilitator,uint256 validAfter)",
        };
        let mut witness = vec![keccak(&[kind.as_bytes()]), address(&transfer.to)?];
        if let Some(facilitator) = &self.facilitator {
            witness.push(address(facilitator)?);
        }
        witness.push(word(u128::from(transfer.valid_after)));
        let whole = "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,Witness witness)";
        let permitted = keccak(&[
            &keccak(&[tokens.as_bytes()]),
            &address(&self.token)?,
            &word(transfer.value),
        ]);
        let message = keccak(&[
            &keccak(&[whole.as_bytes(), tokens.as_bytes(), kind.as_bytes()]),
            &permitted,
            &address(&self.spender)?,
            &bytes(&transfer.nonce)?,
            &word(u128::from(transfer.valid_before)),
            &keccak(&[&witness.concat()]),
        ]);
        Some(keccak(&[b"\x19\x01", &separator, &message]))
    }

    /// The call of the proxy that takes this much.
    pub(super) fn call(&self, transfer: &Transfer, amount: u128) -> String {
        let mut words = vec![
            address(&self.token).unwrap(),
            word(transfer.value),
            bytes(&transfer.nonce).unwrap().try_into().unwrap(),
            word(u128::from(transfer.valid_before)),
        ];
        let kind = match &self.facilitator {
            None => "settle(((address,uint256),uint256,uint256),address,(address,uint256),bytes)",
            Some(_) => {
                words.push(word(amount));
                "settle(((address,uint256),uint256,uint256),uint256,address,(address,address,uint256),bytes)"
            }
        };
        words.push(address(&transfer.from).unwrap());
        words.push(address(&transfer.to).unwrap());
        if let Some(facilitator) = &self.facilitator {
            words.push(address(facilitator).unwrap());
        }
        words.push(word(u128::from(transfer.valid_after)));
        words.push(word((u128::try_from(words.len()).unwrap() + 1) * 32));
        words.push(word(65));
        let mut data = [&keccak(&[kind.as_bytes()])[..4], &words.concat()].concat();
        data.extend(bytes(&transfer.signature).unwrap());
        data.resize(data.len() + 31, 0);
        format!("0x{}", hex::encode(data))
    }
}
