//! One side of a connection, with a buffer, and a copy of everything that came.

use std::io;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// What came on one connection.
pub(crate) type Log = Arc<Mutex<Vec<u8>>>;

pub(crate) struct Wire {
    pub(crate) io: Box<dyn Duplex>,
    pub(crate) buffer: Vec<u8>,
    log: Log,
}

impl Wire {
    pub(crate) fn new(io: impl Duplex + 'static, log: Log) -> Self {
        Self {
            io: Box::new(io),
            buffer: vec![],
            log,
        }
    }

    /// Everything that came so far.
    pub(crate) fn heard(&self) -> Vec<u8> {
        self.log.lock().unwrap().clone()
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.io.write_all(bytes).await?;
        self.io.flush().await
    }

    /// Reads once. False at the end, however it came: a reset ends as a close does.
    pub(crate) async fn more(&mut self) -> bool {
        let mut piece = vec![0; 1 << 16];
        match self.io.read(&mut piece).await {
            Ok(0) | Err(_) => false,
            Ok(n) => {
                self.buffer.extend_from_slice(&piece[..n]);
                self.log.lock().unwrap().extend_from_slice(&piece[..n]);
                true
            }
        }
    }

    /// Exactly so many bytes, or `None` when the connection ends before.
    pub(crate) async fn exact(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < length {
            if !self.more().await {
                return None;
            }
        }
        Some(self.buffer.drain(..length).collect())
    }

    /// Up to and with `end`.
    pub(crate) async fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            let found = self.buffer.windows(end.len()).position(|w| w == end);
            if let Some(at) = found {
                return Some(self.buffer.drain(..at + end.len()).collect());
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// Says that nothing more comes.
    pub(crate) async fn finish(&mut self) {
        let _ = self.io.shutdown().await;
    }

    /// Everything up to the end of the connection.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.buffer)
    }
}
