//! Edits a record by a DNS update (RFC 2136) over TCP, signed with a shared secret (RFC 8945).

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use hickory_proto::op::update_message::{append, delete_by_rdata};
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::rdata::tsig::TsigAlgorithm as Algorithm;
use hickory_proto::rr::{Name, RData, Record, RecordType, TSigner};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Edit;
use crate::certificates::authority;
use crate::config::{TsigAlgorithm, TsigKey};

/// For one question and its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// How far the name server's clock may be from ours, in seconds.
const FUDGE: u16 = 300;

/// How long other name servers may remember the record, in seconds.
const TTL: u32 = 60;

/// Adds or removes the TXT record `name` with `value`.
pub async fn run(
    server: SocketAddr,
    key: &TsigKey,
    edit: Edit,
    name: &str,
    value: &str,
) -> Result<(), String> {
    let mut name = Name::from_ascii(name).map_err(|error| error.to_string())?;
    name.set_fqdn(true);
    let signer = signer(key).await?;
    let zone = zone(server, &signer, &name).await?;

    let data = RData::TXT(TXT::new(vec![value.to_owned()]));
    let record = Record::from_rdata(name, TTL, data);
    let update = match edit {
        Edit::Add => append(record.into(), zone.clone(), false, false),
        Edit::Remove => delete_by_rdata(record.into(), zone.clone(), false),
    };
    let answer = ask(server, &signer, update).await?;
    match answer.metadata.response_code {
        ResponseCode::NoError => Ok(()),
        code => Err(format!(
            "the name server {server} does not update {zone}: {}",
            words(code, &answer)
        )),
    }
}

/// The zone that `name` is in, which the server's answer about it tells.
async fn zone(server: SocketAddr, signer: &TSigner, name: &Name) -> Result<Name, String> {
    let mut question = Message::query();
    question.add_query(Query::query(name.clone(), RecordType::SOA));
    let answer = ask(server, signer, question).await?;
    let code = answer.metadata.response_code;
    let soa = answer.answers.iter().chain(&answer.authorities);
    let mut zones = soa.filter(|record| record.record_type() == RecordType::SOA);
    let zone = zones.find(|record| record.name.zone_of(name)).map(|record| record.name.clone());
    zone.ok_or_else(|| {
        format!(
            "the name server {server} knows no zone that {name} is in: {}",
            words(code, &answer)
        )
    })
}

async fn ask(server: SocketAddr, signer: &TSigner, question: Message) -> Result<Message, String> {
    let asked = timeout(ANSWER_TIMEOUT, exchange(server, signer, question)).await;
    asked.unwrap_or_else(|_| {
        Err(format!("the name server {server} did not answer in {ANSWER_TIMEOUT:?}"))
    })
}

async fn exchange(
    server: SocketAddr,
    signer: &TSigner,
    mut question: Message,
) -> Result<Message, String> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.map_or(0, |since| since.as_secs());
    let verifier = question.finalize(signer, now).map_err(|error| error.to_string())?;
    let bytes = question.to_vec().map_err(|error| error.to_string())?;
    let length = u16::try_from(bytes.len()).map_err(|_| "the question is too long".to_owned())?;

    let lost = |error| format!("cannot talk to the name server {server}: {error}");
    let mut stream = TcpStream::connect(server).await.map_err(lost)?;
    stream.write_all(&[&length.to_be_bytes(), &bytes[..]].concat()).await.map_err(lost)?;
    let length = stream.read_u16().await.map_err(lost)?;
    let mut bytes = vec![0; length.into()];
    stream.read_exact(&mut bytes).await.map_err(lost)?;

    let unread = |error| format!("the answer of the name server {server} cannot be read: {error}");
    let answer = Message::from_vec(&bytes).map_err(unread)?;
    if answer.metadata.id != question.metadata.id {
        return Err(format!("the name server {server} answered another question"));
    }
    // A refusal may be without a signature, as where the server does not know the key.
    if answer.metadata.response_code == ResponseCode::NoError
        && let Some(mut verifier) = verifier
    {
        verifier
            .verify(&bytes)
            .map_err(|error| format!("the answer of {server} is not signed by our key: {error}"))?;
    }
    Ok(answer)
}

async fn signer(key: &TsigKey) -> Result<TSigner, String> {
    let wanted = key.clone();
    let secret = crate::acme::blocking(move || authority::tsig_secret(&wanted));
    let secret = secret.await.map_err(|problem| problem.to_string())?;
    let algorithm = match key.algorithm {
        TsigAlgorithm::HmacSha256 => Algorithm::HmacSha256,
        TsigAlgorithm::HmacSha384 => Algorithm::HmacSha384,
        TsigAlgorithm::HmacSha512 => Algorithm::HmacSha512,
    };
    let name = Name::from_ascii(key.name.as_str()).map_err(|error| error.to_string())?;
    TSigner::new(secret, algorithm, name, FUDGE).map_err(|error| error.to_string())
}

/// What a code means here, and what to look at.
fn words(code: ResponseCode, answer: &Message) -> String {
    let signature = answer.signature.as_ref().and_then(|record| record.data.error.as_ref());
    let about_key = signature.map(|error| {
        format!(", {error:?}: look at key_name, key_file and algorithm, and at both clocks")
    });
    let help = match code {
        ResponseCode::Refused => ": the key may not do this, or the zone is not its own",
        _ => "",
    };
    format!("{code}{}{help}", about_key.unwrap_or_default())
}
