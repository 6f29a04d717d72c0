//! Sends one trace to weir over Ingest and prints the ids that weir gave it.
//! WEIR_GRPC is weir's address, LANGSMITH_API_KEY an optional key.

use std::env;
use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use prost_types::Timestamp;
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};

use weir::ingest_service_client::IngestServiceClient;
use weir::operation::Operation as Do;
use weir::{Attachment, Feedback, IngestRequest, ItemResult, Json, Operation, Run, json};

/// Generated from ../../proto by build.rs.
mod weir {
    tonic::include_proto!("weir.v1");
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(run()),
        Err(err) => Err(err.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("rust: {err}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let addr = env_or_empty("WEIR_GRPC");
    let addr = if addr.is_empty() {
        "127.0.0.1:4317"
    } else {
        &addr
    };
    let key = env_or_empty("LANGSMITH_API_KEY");
    let channel = Endpoint::from_shared(format!("http://{addr}"))?
        .timeout(Duration::from_secs(20))
        .connect()
        .await
        .map_err(|err| format!("connect to {addr}: {err}"))?;
    let session = Session {
        client: IngestServiceClient::new(channel),
        key: if key.is_empty() {
            None
        } else {
            Some(key.parse()?)
        },
    };
    send_trace(session).await
}

/// Sends a chain with a call of a model inside, then how they ended.
async fn send_trace(mut session: Session) -> Result<(), Box<dyn Error>> {
    let root = session
        .send(vec![Do::Create(Run {
            name: "answer-question".into(),
            run_type: "chain".into(),
            start_time: now(),
            inputs: text(r#"{"question": "What does a weir do?"}"#),
            tags: vec!["example".into(), "rust".into()],
            ..Run::default()
        })])
        .await?
        .remove(0);
    // weir takes trace_id and dotted_order from the parent.
    let llm = session
        .send(vec![Do::Create(Run {
            parent_run_id: root.id.clone(),
            name: "chat-model".into(),
            run_type: "llm".into(),
            start_time: now(),
            inputs: text(r#"{"messages": [{"role": "user", "content": "What does a weir do?"}]}"#),
            ..Run::default()
        })])
        .await?
        .remove(0);
    let rest = session
        .send(vec![
            Do::Update(Run {
                id: llm.id.clone(),
                end_time: now(),
                outputs: text(r#"{"role": "assistant", "content": "It holds back a river."}"#),
                ..Run::default()
            }),
            Do::Update(Run {
                id: root.id.clone(),
                end_time: now(),
                outputs: text(r#"{"answer": "It holds back a river."}"#),
                ..Run::default()
            }),
            Do::Attachment(Attachment {
                run_id: root.id.clone(),
                name: "notes".into(),
                content_type: "text/plain".into(),
                content: b"A weir is a low dam.\n".to_vec(),
                ..Attachment::default()
            }),
            Do::Feedback(Feedback {
                run_id: root.id.clone(),
                key: "correctness".into(),
                score: Some(1.0),
                ..Feedback::default()
            }),
        ])
        .await?;
    println!(
        "trace {} root {} llm {} feedback {}",
        root.trace_id, root.id, llm.id, rest[3].id
    );
    Ok(())
}

struct Session {
    client: IngestServiceClient<Channel>,
    key: Option<MetadataValue<Ascii>>,
}

impl Session {
    /// Returns one result for each operation, or an error if any has one.
    async fn send(&mut self, operations: Vec<Do>) -> Result<Vec<ItemResult>, Box<dyn Error>> {
        let sent = operations.len();
        let operations = operations
            .into_iter()
            .map(|operation| Operation {
                operation: Some(operation),
            })
            .collect();
        let mut request = Request::new(IngestRequest { operations });
        if let Some(key) = &self.key {
            request.metadata_mut().insert("x-api-key", key.clone());
        }
        let results = self.client.ingest(request).await?.into_inner().results;
        if results.len() != sent {
            return Err(format!("{} results for {sent} operations", results.len()).into());
        }
        for result in &results {
            if let Some(refusal) = &result.error {
                return Err(format!("operation {} is refused: {refusal:?}", result.index).into());
            }
        }
        Ok(results)
    }
}

fn env_or_empty(name: &str) -> String {
    env::var(name).unwrap_or_default()
}

fn now() -> Option<Timestamp> {
    Some(SystemTime::now().into())
}

fn text(json: &str) -> Option<Json> {
    Some(Json {
        value: Some(json::Value::Text(json.into())),
    })
}
