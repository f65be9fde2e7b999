//! Bytes from one stream to another, both ways. A way whose bytes are all on their way has no buffer:
//! each thread has one. What a side does not take at once is kept, and that is little when many do not
//! take theirs: whoever opens tunnels and reads nothing must not fill the memory (threat D-07).

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are read at once. More cost the processor's cache, fewer cost system calls.
const BUFFER: usize = 128 * 1024;

/// The same while many ways keep what they read.
const SMALL: usize = 16 * 1024;

/// So many may keep a whole buffer each: 8 MiB of all tunnels together.
const LARGE_MAX: usize = 64;

/// Ways that keep what they read.
static KEPT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A buffer of this thread, or a new one while that is lent; and how much of it is to be used.
fn lend() -> (Vec<u8>, usize) {
    let mut buffer = SPARE.take();
    buffer.resize(BUFFER, 0);
    let many = KEPT.load(Ordering::Relaxed) >= LARGE_MAX;
    (buffer, if many { SMALL } else { BUFFER })
}

/// Copies until both sides have ended. The end of one is passed on to the other. Who takes nothing more may have said
/// something before, so an error of writing ends its own way only, and is told when the other one has ended.
pub(super) async fn both_ways<A, B>(mut a: A, mut b: B) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut there, mut back) = (Way::default(), Way::default());
    std::future::poll_fn(|cx| {
        let told = there.poll(&mut a, &mut b, cx)?;
        let answered = back.poll(&mut b, &mut a, cx)?;
        match told.is_ready() && answered.is_ready() {
            true => {
                let broken = there.broken.take().or(back.broken.take());
                Poll::Ready(broken.map_or(Ok(()), Err))
            }
            false => Poll::Pending,
        }
    })
    .await
}

/// One direction.
#[derive(Default)]
struct Way {
    /// Bytes that could not be written yet: from `sent` to `read`. Empty while there are none.
    buffer: Vec<u8>,
    sent: usize,
    read: usize,
    kept: Option<Kept>,
    unflushed: bool,
    end: End,
    /// Why nothing more can be written.
    broken: Option<io::Error>,
    /// Why nothing more can be read. What was read before is written first.
    lost: Option<io::Error>,
}

/// Counts a way that keeps what it read.
struct Kept;

impl Kept {
    fn count() -> Self {
        KEPT.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        KEPT.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum End {
    #[default]
    Open,
    /// Nothing more comes.
    Read,
    /// And the other side knows, or takes nothing more.
    Told,
}

impl Way {
    /// Ready when this way has ended. An error is one of the side that is read.
    fn poll<R, W>(&mut self, from: &mut R, to: &mut W, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        while self.end != End::Told {
            if let Err(e) = ready!(self.tell(to, cx)) {
                self.give_up(e);
            }
            if self.lost.is_some() {
                let _ = ready!(self.flush(to, cx));
                return Poll::Ready(self.lost.take().map_or(Ok(()), Err));
            }
            if self.end == End::Open && self.read(from, cx).is_pending() {
                // Nothing follows at once, so what was written must not wait for company.
                if let Err(e) = ready!(self.flush(to, cx)) {
                    self.give_up(e);
                    continue;
                }
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what was read, and its end.
    fn tell<W>(&mut self, to: &mut W, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        W: AsyncWrite + Unpin,
    {
        ready!(self.write(to, cx))?;
        if self.end == End::Read {
            ready!(Pin::new(to).poll_shutdown(cx))?;
            self.end = End::Told;
        }
        Poll::Ready(Ok(()))
    }

    fn flush<W>(&mut self, to: &mut W, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        W: AsyncWrite + Unpin,
    {
        if self.unflushed {
            ready!(Pin::new(to).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Nothing more can be written, so nothing more is read.
    fn give_up(&mut self, error: io::Error) {
        self.release();
        self.broken = Some(error);
        self.end = End::Told;
    }

    /// Writes what was read; the buffer is free again when all of it is written.
    fn write<W>(&mut self, to: &mut W, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        W: AsyncWrite + Unpin,
    {
        while let Some(rest) = self.buffer.get(self.sent..self.read)
            && !rest.is_empty()
        {
            match Pin::new(&mut *to).poll_write(cx, rest)? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(n) => self.sent += n,
                Poll::Pending => {
                    self.keep();
                    return Poll::Pending;
                }
            }
            self.unflushed = true;
        }
        self.release();
        Poll::Ready(Ok(()))
    }

    /// Gives the buffer back.
    fn release(&mut self) {
        self.kept = None;
        if self.buffer.len() == BUFFER {
            SPARE.set(std::mem::take(&mut self.buffer));
        } else {
            self.buffer = Vec::new();
        }
    }

    /// The rest must wait. A large one keeps its buffer, a small one takes no more than it needs.
    fn keep(&mut self) {
        if self.kept.is_some() {
            return;
        }
        self.kept = Some(Kept::count());
        let rest = self.buffer.get(self.sent..self.read).unwrap_or_default();
        if rest.len() <= SMALL {
            let rest = rest.to_vec();
            (self.sent, self.read) = (0, rest.len());
            SPARE.set(std::mem::replace(&mut self.buffer, rest));
        }
    }

    fn read<R>(&mut self, from: &mut R, cx: &mut Context<'_>) -> Poll<()>
    where
        R: AsyncRead + Unpin,
    {
        let (mut buffer, length) = lend();
        let mut into = ReadBuf::new(buffer.get_mut(..length).unwrap_or_default());
        let polled = Pin::new(from).poll_read(cx, &mut into);
        let read = into.filled().len();
        match polled {
            Poll::Ready(Ok(())) if read > 0 => {
                (self.buffer, self.sent, self.read) = (buffer, 0, read);
                return Poll::Ready(());
            }
            Poll::Ready(Ok(())) => self.end = End::Read,
            Poll::Ready(Err(e)) => self.lost = Some(e),
            Poll::Pending => {
                SPARE.set(buffer);
                return Poll::Pending;
            }
        }
        SPARE.set(buffer);
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    fn pattern(len: usize) -> Vec<u8> {
        (0..len).map(|n| u8::try_from(n % 251).unwrap()).collect()
    }

    #[tokio::test]
    async fn every_byte_arrives_both_ways_also_where_writes_wait() {
        // Far less than a buffer fits between them, so that every write is cut.
        let (mut client, near) = duplex(1000);
        let (far, mut server) = duplex(700);
        let copy = tokio::spawn(both_ways(near, far));
        let (sent, answered) = (pattern(3 * BUFFER + 17), pattern(2 * BUFFER + 5));
        let talk = async {
            let (mut reader, mut writer) = tokio::io::split(&mut client);
            let send = async {
                writer.write_all(&sent).await.unwrap();
                writer.shutdown().await.unwrap();
            };
            let mut got = Vec::new();
            let (_, read) = tokio::join!(send, reader.read_to_end(&mut got));
            read.unwrap();
            got
        };
        let serve = async {
            let (mut reader, mut writer) = tokio::io::split(&mut server);
            let send = async {
                writer.write_all(&answered).await.unwrap();
                writer.shutdown().await.unwrap();
            };
            let mut got = Vec::new();
            let (_, read) = tokio::join!(send, reader.read_to_end(&mut got));
            read.unwrap();
            got
        };
        let (at_client, at_server) = tokio::join!(talk, serve);
        assert!(at_client == answered && at_server == sent);
        copy.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn the_end_of_one_side_is_not_the_end_of_the_other() {
        let (mut client, near) = duplex(64);
        let (far, mut server) = duplex(64);
        let copy = tokio::spawn(both_ways(near, far));
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut asked = Vec::new();
        server.read_to_end(&mut asked).await.unwrap();
        assert_eq!(asked, b"question");
        server.write_all(b"answer").await.unwrap();
        let mut told = [0; 6];
        client.read_exact(&mut told).await.unwrap();
        assert_eq!(&told, b"answer");
        drop(server);
        copy.await.unwrap().unwrap();
    }

    /// Each writes and none reads: the first ones keep a whole buffer, all others what is small.
    #[tokio::test]
    async fn whoever_reads_nothing_gets_little_memory() {
        const TUNNELS: usize = 3 * LARGE_MAX;
        let mut ways: Vec<Way> = vec![];
        let data = pattern(4 * BUFFER);
        for _ in 0..TUNNELS {
            let (mut client, mut near) = duplex(4 * BUFFER);
            let (mut far, server) = duplex(100);
            client.write_all(&data).await.unwrap();
            let mut way = Way::default();
            let polled =
                std::future::poll_fn(|cx| Poll::Ready(way.poll(&mut near, &mut far, cx))).await;
            assert!(polled.is_pending());
            drop(server);
            ways.push(way);
        }
        let held: usize = ways.iter().map(|way| way.buffer.capacity()).sum();
        let most = LARGE_MAX * BUFFER + TUNNELS * SMALL;
        assert!(held <= most, "{held} is more than {most}");
        drop(ways);
        assert_eq!(lend().1, BUFFER, "those that are gone are counted no more");
    }

    #[tokio::test]
    async fn what_a_side_said_before_it_broke_arrives() {
        let (mut client, near) = duplex(64);
        let (far, mut server) = duplex(2 * BUFFER);
        let answer = pattern(2 * BUFFER);
        server.write_all(&answer).await.unwrap();
        drop(server);
        client.write_all(b"x").await.unwrap();
        let copy = tokio::spawn(both_ways(near, far));
        let mut told = vec![];
        client.read_to_end(&mut told).await.unwrap();
        assert!(told == answer, "{} bytes", told.len());
        assert!(copy.await.unwrap().is_err());
    }

    /// As TLS is: what is written stays until it is flushed.
    #[tokio::test]
    async fn what_came_before_a_reset_is_flushed() {
        struct Reset;
        impl AsyncRead for Reset {
            fn poll_read(
                self: Pin<&mut Self>,
                _: &mut Context<'_>,
                _: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
        }
        let said = tokio::io::join(b"last words".chain(Reset), tokio::io::sink());
        let (client, mut near) = duplex(64);
        let copy = both_ways(said, tokio::io::BufWriter::new(client));
        let broken = copy.await.unwrap_err();
        assert_eq!(broken.kind(), io::ErrorKind::ConnectionReset);
        let mut told = vec![];
        near.read_to_end(&mut told).await.unwrap();
        assert_eq!(told, b"last words");
    }

    #[tokio::test]
    async fn a_side_that_breaks_ends_both() {
        let (mut client, near) = duplex(64);
        let (far, server) = duplex(64);
        drop(server);
        let copy = tokio::spawn(both_ways(near, far));
        client.write_all(b"x").await.unwrap();
        assert!(copy.await.unwrap().is_err());
    }
}
