//! The key that sets the gate of every router: written and read by whoever administers a mesh. Routers learn of it by
//! following the mesh.

use super::{
    keys::Keys,
    members::{Members, Trouble, call},
};
use crate::registry::Error;

/// What to do with the key.
#[derive(Debug)]
pub(super) enum Wish {
    Read,
    Write(String),
    Delete,
}

/// What the key says after that, where it was to be read. Asks one member after the other: doing it twice does no harm.
pub(super) async fn ask(keys: &Keys, mut members: Members, wish: Wish) -> Result<Option<String>, Error> {
    let mut last = Trouble::Silent;
    for _ in 0..members.len() {
        match try_once(keys, &members, &wish).await {
            Ok(answer) => return Ok(answer),
            Err(trouble) => last = trouble,
        }
        members.rotate();
    }
    Err(Error::Unavailable(Box::new(last)))
}

async fn try_once(keys: &Keys, members: &Members, wish: &Wish) -> Result<Option<String>, Trouble> {
    let (mut client, _) = members.client().await?;
    match wish {
        Wish::Read => {
            let found = call(client.get(keys.gate(), None)).await?;
            Ok(found.kvs().first().map(|entry| String::from_utf8_lossy(entry.value()).into_owned()))
        }
        Wish::Write(settings) => call(client.put(keys.gate(), settings.clone(), None)).await.map(|_| None),
        Wish::Delete => {
            // Deleting what is not there is no event, and routers may have kept what etcd has lost.
            call(client.put(keys.gate(), "", None)).await?;
            call(client.delete(keys.gate(), None)).await.map(|_| None)
        }
    }
}
