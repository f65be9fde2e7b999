//! Streams of TLS, which are given what they encrypt in small pieces. The TLS library copies each record
//! behind its header of five bytes, where nothing is aligned; the C library (glibc, from 2,112 bytes on)
//! does that by `rep movsb`, which takes ten times as long on processors of AMD as a copy in its registers.
//!
//! And whoever reads them goes on to the next task after some: a read costs the same whether it brings one frame of
//! HTTP/2 or thousands, and to whoever sends nothing but the smallest a worker would belong for tens of milliseconds
//! (threat D-01).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop::poll_proceed;

/// Bytes that count as one of the 128 steps which the runtime gives a task at a time.
const STEP: usize = 1024;

/// Bytes of a piece.
const PIECE: usize = 2048;

/// Pieces of one write.
const PIECES: usize = 64;

/// A stream that is written in pieces, and read in turns.
pub(super) struct Sliced<S>(S);

impl<S> Sliced<S> {
    pub(super) fn new(stream: S) -> Self {
        Self(stream)
    }

    pub(super) fn get(&self) -> &S {
        &self.0
    }
}

/// As much of the beginning as fits into these pieces; says how many there are.
fn cut<'a>(bytes: impl Iterator<Item = &'a [u8]>, pieces: &mut [IoSlice<'a>; PIECES]) -> usize {
    let mut room = pieces.iter_mut();
    for (piece, place) in bytes.flat_map(|b| b.chunks(PIECE)).zip(room.by_ref()) {
        *place = IoSlice::new(piece);
    }
    PIECES - room.len()
}

impl<S: AsyncRead + Unpin> AsyncRead for Sliced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (step, before) = (ready!(poll_proceed(cx)), buf.filled().len());
        let read = ready!(Pin::new(&mut self.0).poll_read(cx, buf));
        step.made_progress();
        for _ in 0..(buf.filled().len() - before) / STEP {
            match poll_proceed(cx) {
                Poll::Ready(step) => step.made_progress(),
                Poll::Pending => break,
            }
        }
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Sliced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if buf.len() <= PIECE {
            return Pin::new(&mut self.0).poll_write(cx, buf);
        }
        let mut pieces = [IoSlice::new(&[]); PIECES];
        let some = cut(std::iter::once(buf), &mut pieces);
        let pieces = pieces.get(..some).unwrap_or_default();
        Pin::new(&mut self.0).poll_write_vectored(cx, pieces)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if bufs.iter().all(|b| b.len() <= PIECE) {
            return Pin::new(&mut self.0).poll_write_vectored(cx, bufs);
        }
        let mut pieces = [IoSlice::new(&[]); PIECES];
        let some = cut(bufs.iter().map(|b| &**b), &mut pieces);
        let pieces = pieces.get(..some).unwrap_or_default();
        Pin::new(&mut self.0).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes what it is given, and remembers how long the pieces were.
    #[derive(Default)]
    struct Taken {
        bytes: Vec<u8>,
        longest: usize,
    }

    impl AsyncWrite for Taken {
        fn poll_write(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(cx, &[IoSlice::new(buf)])
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            for buf in bufs {
                self.longest = self.longest.max(buf.len());
                self.bytes.extend_from_slice(buf);
            }
            Poll::Ready(Ok(bufs.iter().map(|b| b.len()).sum()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn everything_is_written_in_its_order_and_nothing_in_one_long_piece() {
        use tokio::io::AsyncWriteExt as _;

        let all: Vec<u8> = (0..300_000_u32).map(|n| n.to_le_bytes()[1]).collect();
        let (first, rest) = all.split_at(10);
        let (second, third) = rest.split_at(5 * PIECE + 1);
        let mut sliced = Sliced::new(Taken::default());
        let bufs = [first, &[], second].map(IoSlice::new);
        let written = sliced.write_vectored(&bufs).await.unwrap();
        assert_eq!(written, first.len() + second.len());
        let written = sliced.write(third).await.unwrap();
        assert_eq!(written, PIECE * PIECES, "no more than there is room for");
        sliced.write_all(&third[written..]).await.unwrap();
        let taken = sliced.get();
        assert!(taken.bytes == all && taken.longest == PIECE);
    }

    /// Others have their turn while somebody sends without a pause.
    #[tokio::test]
    async fn whoever_reads_goes_on_to_the_next() {
        use std::sync::atomic::{AtomicBool, Ordering};

        use tokio::io::AsyncReadExt as _;

        for (piece, most) in [(16 * STEP, 128 * STEP), (9, 128 * 9)] {
            let turn = std::sync::Arc::new(AtomicBool::new(false));
            let theirs = std::sync::Arc::clone(&turn);
            let other = tokio::spawn(async move { theirs.store(true, Ordering::Relaxed) });
            let (mut endless, mut buffer) = (Sliced::new(tokio::io::repeat(1)), vec![0; piece]);
            let mut read = 0;
            while !turn.load(Ordering::Relaxed) && read < 2 * most {
                read += endless.read(&mut buffer).await.unwrap();
            }
            // The last read is of the next turn.
            assert!(read <= most + piece, "{read} of {most} bytes in one turn");
            other.await.unwrap();
        }
    }
}
