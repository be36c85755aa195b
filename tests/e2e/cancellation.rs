//! A caller who goes away takes the work along: the expert's call ends as well.

use consilium_proto::v1;
use consilium_tests::{Behaviour, Mesh, question};

#[tokio::test]
async fn of_a_unary_call() {
    let mesh = Mesh::start("default_deadline: 60s\nmax_deadline: 60s").await;
    let oracle = mesh.script("oracle", Behaviour::Hold).await;
    {
        let asked = mesh.ask("ask oracle something");
        tokio::pin!(asked);
        tokio::select! {
            reply = &mut asked => panic!("it is held: {reply:?}"),
            () = oracle.called(1) => {}
        }
    }
    oracle.abandoned(1).await;
    oracle.release();
    mesh.ask("ask oracle something").await.expect("the mesh goes on answering others");
}

#[tokio::test]
async fn of_a_stream() {
    let mesh = Mesh::start("default_deadline: 60s\nmax_deadline: 60s").await;
    let oracle = mesh.script("oracle", Behaviour::Hold).await;
    let request = v1::StreamDispatchRequest { query: question("ask oracle something").query, ..Default::default() };
    let mut stream = mesh.client.clone().stream_dispatch(request).await.expect("the stream opens").into_inner();
    stream.message().await.expect("the decision comes").expect("first of all");
    oracle.called(1).await;
    drop(stream);
    oracle.abandoned(1).await;
}
