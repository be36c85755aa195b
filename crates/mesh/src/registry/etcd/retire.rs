//! Forgetting a card for good. Decided by etcd in one transaction: an instance that registers at the same moment keeps
//! its card.

use etcd_client::{Client, Compare, CompareOp, GetOptions, Txn, TxnOp};

use super::{
    keys::{Keys, Place},
    members::{Members, Trouble, call},
};
use crate::registry::{Error, Record};

/// Tries against instances that come and go meanwhile.
const TRIES: usize = 5;

/// Asks one member after the other.
pub(super) async fn retire(keys: &Keys, mut members: Members, (expert, version): (&str, &str)) -> Result<(), Error> {
    let mut last = None;
    for _ in 0..members.len().max(TRIES) {
        match try_once(keys, &members, (expert, version)).await {
            Ok(outcome) => return outcome,
            Err(Trouble::Conflict) => last = Some(Trouble::Conflict),
            Err(trouble) => {
                last = Some(trouble);
                members.rotate();
            }
        }
    }
    Err(Error::Unavailable(Box::new(last.unwrap_or(Trouble::Conflict))))
}

/// What etcd decided, if it could be asked.
async fn try_once(
    keys: &Keys,
    members: &Members,
    (expert, version): (&str, &str),
) -> Result<Result<(), Error>, Trouble> {
    let (mut client, _) = members.client().await?;
    let card = keys.card(expert, version);
    let known = call(client.get(card.clone(), None)).await?;
    let Some(known) = known.kvs().first() else {
        return Ok(Err(Error::Unknown { expert: expert.to_owned(), version: version.to_owned() }));
    };
    let mut unchanged = vec![Compare::mod_revision(card.clone(), CompareOp::Equal, known.mod_revision())];
    for place in [Place::Experts, Place::Candidates] {
        let prefix = keys.instances(place, expert);
        let (revision, records) = records(&mut client, expert, &prefix).await?;
        if let Some(user) = records.into_iter().find(|record| record.version == version) {
            let (expert, version) = (expert.to_owned(), version.to_owned());
            return Ok(Err(Error::InUse { expert, version, instance: user.instance }));
        }
        // Holds for every key of the range, and where there is none.
        unchanged.push(Compare::mod_revision(prefix, CompareOp::Less, revision + 1).with_prefix());
    }
    let txn = Txn::new().when(unchanged).and_then([TxnOp::delete(card, None)]);
    if call(client.txn(txn)).await?.succeeded() { Ok(Ok(())) } else { Err(Trouble::Conflict) }
}

async fn records(client: &mut Client, expert: &str, prefix: &str) -> Result<(i64, Vec<Record>), Trouble> {
    let found = call(client.get(prefix, Some(GetOptions::new().with_prefix()))).await?;
    let revision = found.header().map_or(0, etcd_client::ResponseHeader::revision);
    let read = |value: &etcd_client::KeyValue| Record::decode(expert, value.value_str().ok()?).ok();
    Ok((revision, found.kvs().iter().filter_map(read).collect()))
}
