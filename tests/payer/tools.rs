//! Prices of the tools behind one path: each has its own.

use farepass::event::State;
use farepass::payment::Reason;
use http::StatusCode;

use super::stage::{Setup, Stage, challenge, paid, receipt};

const HELD: &str = "
rules:
  - name: data
    match: { hosts: [api.example.com] }
    pay: { max: 9 USD, max_price_increase: 20%, mcp: true }
";

/// Was this price of this tool paid?
async fn pays(stage: &Stage, tool: Option<&str>, amount: &str) -> bool {
    let mut asked = stage.asked("api.example.com");
    asked.tool = tool.into();
    match stage.payer.authorize(&asked, &challenge(amount)).await {
        Ok(signed) => {
            let headers = receipt(&paid());
            let answer = Some((StatusCode::OK, &headers));
            stage.payer.settle(signed, answer).await;
            assert_eq!(stage.newest().await.state, State::Settled);
            true
        }
        Err(refusal) => {
            assert_eq!(refusal.reason, Reason::PriceChanged);
            false
        }
    }
}

async fn stage() -> Stage {
    let setup = Setup {
        policy: HELD,
        budget: farepass::money::Usd(1_000_000_000),
        ..Setup::default()
    };
    setup.stage().await
}

#[tokio::test]
async fn each_tool_of_a_path_has_a_price_of_its_own() {
    let stage = stage().await;
    let long = "x".repeat(1000);
    let longer = "x".repeat(1001);
    for (tool, amount, ok) in [
        ("cheap", "1000", true),
        ("dear", "9000", true),
        ("dear", "10800", true),
        ("dear", "10801", false),
        ("cheap", "1201", false),
        ("cheap", "1200", true),
        // Names that only look alike.
        ("che ap", "2000", true),
        ("che%20ap", "3000", true),
        ("che ap", "2401", false),
        (&long, "1000", true),
        (&longer, "2000", true),
        (&long, "1201", false),
    ] {
        assert_eq!(
            pays(&stage, Some(tool), amount).await,
            ok,
            "{tool} {amount}"
        );
    }
}

#[tokio::test]
async fn what_was_remembered_of_a_path_holds_for_a_tool_without_a_price_of_its_own() {
    let stage = stage().await;
    assert!(pays(&stage, None, "1000").await);
    assert!(!pays(&stage, Some("search"), "1201").await);
    assert!(pays(&stage, Some("search"), "500").await);
    assert!(!pays(&stage, Some("search"), "601").await);
    assert!(pays(&stage, None, "1200").await, "the path keeps its own");
    stage.payer.forget("api.example.com").await.unwrap();
    assert!(pays(&stage, Some("search"), "9000").await);
}
