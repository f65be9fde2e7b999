//! HTTP on the wire, byte by byte: raw agents, raw merchants, the real binary between them.
#![cfg(test)]

mod breaks;
mod differ;
mod expect;
mod firsts;
mod frames;
mod interim;
mod lanes;
mod limits;
mod open;
mod pairs;
mod preload;
mod quirks;
mod refused;
mod rests;
mod streams;
mod support;
mod uploads;
mod vectors_request;
mod vectors_response;
mod words;
