//! How long other credentials are tried.

use rustls::RootCertStore;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::super::credentials::Picked;
use super::*;

/// Asks with one set of credentials and then with another.
struct Two {
    url: String,
}

impl Overlap for Two {
    fn accepted(&self, _: Used) {}

    fn refused(&self, _: Used, tried: &[Used]) -> bool {
        tried.len() < 2
    }
}

#[async_trait]
impl Signer for Two {
    async fn request(&self, _: &Ask, _: &Fetch) -> Result<Request<Bytes>, Failure> {
        let used = Picked::only(Arc::new(())).used();
        let request = Request::post(&self.url).extension(used);
        request.body(Bytes::new()).map_err(unmade)
    }

    fn signatures(&self, _: &[u8]) -> Result<Vec<Vec<u8>>, Failure> {
        Ok(vec![])
    }

    fn credentials(&self) -> Option<&dyn Overlap> {
        Some(self)
    }
}

/// A signer that refuses the first credentials after so long, and knows no wallet of whoever has the second.
async fn slow(pause: Duration) -> Two {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        for status in ["401 No", "404 Who"] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = vec![];
            while !head.ends_with(b"\r\n\r\n") {
                stream.read_buf(&mut head).await.unwrap();
            }
            sleep(pause).await;
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    Two { url }
}

async fn asked(pause: Duration) -> Why {
    let remote = Remote {
        kind: "two",
        name: "two".into(),
        networks: vec![],
        account: Account::Evm(Address([0; 20])),
        signer: slow(pause).await,
        fetch: None,
        turns: Semaphore::new(1),
        breaker: Breaker::default(),
    };
    let ask = Ask::Message {
        message: vec![],
        transaction: vec![],
        paying: None,
    };
    let fetch = Fetch::new(Arc::new(RootCertStore::empty())).unwrap();
    match remote.ask(&ask, &fetch).await {
        Err(Failure::Refused { why, .. }) => why,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("a signature"),
    }
}

#[tokio::test]
async fn a_refusal_that_takes_its_time_still_leaves_the_other_credentials_a_turn() {
    assert_eq!(asked(Duration::from_millis(1200)).await, Why::NoWallet);
}
