//! The text of a login, as wallets sign it (EIP-4361 in EIP-191). Written from checked values, member by
//! member: no text of a server is signed as it came.

use super::{Address, keccak};

/// What a wallet says when it signs in. Each value is one line without control characters; whoever makes
/// it has checked that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Host, and port unless it is the default one, that the login is for.
    pub domain: String,
    /// Who signs in.
    pub address: Address,
    /// What a person would read.
    pub statement: Option<String>,
    /// What the login is about.
    pub uri: String,
    /// The chain of the account.
    pub chain_id: u64,
    /// Makes it good for once.
    pub nonce: String,
    /// When it was asked for, RFC 3339.
    pub issued_at: String,
    /// Until when it is good, RFC 3339.
    pub expires_at: String,
    /// From when on, RFC 3339.
    pub not_before: Option<String>,
    /// The server's own number for it.
    pub request_id: Option<String>,
    /// What it gives access to.
    pub resources: Vec<String>,
}

impl Login {
    /// The text (EIP-4361, "Message Format").
    #[must_use]
    pub fn text(&self) -> String {
        let Self {
            domain,
            address,
            uri,
            chain_id,
            nonce,
            issued_at,
            expires_at,
            ..
        } = self;
        let statement = self.statement.as_ref().map(|s| format!("{s}\n"));
        let mut text = format!(
            "{domain} wants you to sign in with your Ethereum account:\n{address}\n\n{}\nURI: {uri}\nVersion: 1\n\
             Chain ID: {chain_id}\nNonce: {nonce}\nIssued At: {issued_at}\nExpiration Time: {expires_at}",
            statement.unwrap_or_default(),
        );
        if let Some(not_before) = &self.not_before {
            text += &format!("\nNot Before: {not_before}");
        }
        if let Some(id) = &self.request_id {
            text += &format!("\nRequest ID: {id}");
        }
        if !self.resources.is_empty() {
            text += "\nResources:";
        }
        for resource in &self.resources {
            text += &format!("\n- {resource}");
        }
        text
    }

    /// What is signed: the text behind a prefix that no transaction and no typed data begins with (EIP-191,
    /// version 0x45).
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let text = self.text();
        let prefix = format!("\x19Ethereum Signed Message:\n{}", text.len());
        keccak(&[prefix.as_bytes(), text.as_bytes()].concat())
    }
}
