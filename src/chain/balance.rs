//! What an account holds, for people: no payment depends on it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;

use super::rpc::Node;
use super::solana::{Cluster, Said};
use super::words::{Word, word};
use super::{ChainError, Chains};
use crate::evm::{Address, keccak};
use crate::money::{Amount, Asset, Network};
use crate::solana::{Pubkey, TokenAccount};

/// What was asked about one asset.
pub type Held = Result<Amount, ChainError>;

impl Chains {
    /// How many atomic units of each of these assets an account holds, in their order. Of Solana's tokens,
    /// those in the account that payments are made from. `None` when there is no node for the network.
    ///
    /// # Errors
    /// When the node does not answer, or is not of that chain; else each asset has an error of its own.
    pub async fn balances(
        &self,
        network: &Network,
        owner: &str,
        assets: &[Asset],
    ) -> Result<Option<Vec<Held>>, ChainError> {
        if let Some((_, node)) = self.nodes.iter().find(|(n, _)| n == network) {
            node.is_named().await?;
            let mut all = Vec::with_capacity(assets.len());
            for asset in assets {
                all.push(node.balance(asset, owner).await);
            }
            return Ok(Some(all));
        }
        if let Some((_, cluster)) = self.clusters.iter().find(|(n, _)| n == network) {
            cluster.is_sure().await?;
            let mut all = Vec::with_capacity(assets.len());
            for asset in assets {
                all.push(cluster.balance(asset, owner).await);
            }
            return Ok(Some(all));
        }
        Ok(None)
    }
}

const CALL: &str = "eth_call";

impl Node {
    /// `balanceOf(address)` (ERC-20), as of the newest block.
    async fn balance(&self, asset: &Asset, owner: &str) -> Held {
        let contract = Address::from_hex(&asset.address);
        let (Ok(contract), Ok(owner)) = (contract, Address::from_hex(owner)) else {
            return Err(self.unreadable(CALL));
        };
        let [a, b, c, d, ..] = keccak(b"balanceOf(address)");
        let data = [&[a, b, c, d][..], &word(owner).0].concat();
        let data = format!("0x{}", hex::encode(data));
        let call = json!({ "to": contract.to_string(), "data": data });
        let Word { 0: held } = self.ask(CALL, json!([call, "latest"])).await?;
        let (high, low) = held.split_at(16);
        // More than can be counted is at least this.
        let low = low.try_into().map_or(u128::MAX, u128::from_be_bytes);
        let fits = high.iter().all(|b| *b == 0);
        Ok(Amount(if fits { low } else { u128::MAX }))
    }
}

/// An account, its data as base64.
#[derive(Deserialize)]
struct Account {
    owner: String,
    data: (String, String),
}

impl Cluster {
    /// Of the token account that payments are made from; one that is not there holds nothing.
    async fn balance(&self, asset: &Asset, owner: &str) -> Held {
        const METHOD: &str = "getAccountInfo";
        let node = self.node();
        let program = asset.token_program.unwrap_or_default();
        let keys = owner.parse::<Pubkey>().ok().zip(asset.address.parse().ok());
        let at = keys.and_then(|(owner, mint)| {
            let at = Pubkey::token_account(&owner, program, &mint)?;
            Some((owner, mint, at))
        });
        let (owner, mint, at) = at.ok_or_else(|| node.unreadable(METHOD))?;
        let wanted = json!({ "encoding": "base64", "commitment": "confirmed" });
        let asked = json!([at.to_string(), wanted]);
        let said: Said<Option<Account>> = node.ask(METHOD, asked).await?;
        let Some(account) = said.value else {
            return Ok(Amount(0));
        };
        let data = STANDARD.decode(&account.data.0).ok();
        let account = data
            .filter(|_| account.owner == program.id().to_string())
            .and_then(|data| TokenAccount::read(&data))
            .ok_or_else(|| node.unreadable(METHOD))?;
        match account.owner == owner && account.mint == mint {
            true => Ok(Amount(account.amount.into())),
            false => Err(node.contradiction("another account than was asked for")),
        }
    }
}
