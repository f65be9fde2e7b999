//! A demonstration that needs nothing: a merchant of its own that asks for payment and checks it,
//! and an agent that knows nothing about payments.

pub mod agent;
pub mod facilitator;
pub mod merchant;
