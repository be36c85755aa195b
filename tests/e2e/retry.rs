//! A failed attempt is tried once more, on another instance, where that can do no harm.

use consilium_proto::v1::reply::Result as ReplyResult;
use consilium_tests::{Behaviour, Mesh};
use tonic::{Code, Status};

#[tokio::test]
async fn another_instance_answers_for_a_broken_one() {
    let mesh = Mesh::start("").await;
    let mut broken = mesh.script("oracle", Behaviour::Answer).await;
    let sound = mesh.script("oracle", Behaviour::Answer).await;
    broken.break_down().await;
    let mut retried = 0;
    for _ in 0..20 {
        let response = mesh.ask("ask oracle something").await.expect("the sound instance answers");
        let reply = &response.replies[0];
        assert_eq!(reply.instance, sound.instance);
        assert!(matches!(reply.result, Some(ReplyResult::Answer(_))));
        if reply.attempts.len() == 2 {
            assert_eq!(reply.attempts[0].code, i32::from(Code::Unavailable));
            retried += 1;
        }
    }
    // A failure counts as slow, so after it the broken instance is hardly ever drawn as the lighter of two.
    assert!(retried <= 2, "{retried} of 20 calls met the broken instance");
}

#[tokio::test]
async fn an_instance_that_refuses_is_passed_over_and_at_most_once() {
    let mesh = Mesh::start("").await;
    let one = mesh.script("oracle", Behaviour::Fail(Status::resource_exhausted("queue full"))).await;
    let two = mesh.script("oracle", Behaviour::Fail(Status::unavailable("draining"))).await;
    let three = mesh.script("oracle", Behaviour::Fail(Status::unavailable("draining"))).await;
    mesh.ask("ask oracle something").await.expect_err("all refuse");
    assert_eq!(one.calls() + two.calls() + three.calls(), 2, "one try and one retry");
}

#[tokio::test]
async fn an_instance_that_hangs_makes_room_for_another_one() {
    let mesh = Mesh::start("default_deadline: 3s").await;
    let hanging = mesh.script("oracle", Behaviour::Hold).await;
    let sound = mesh.script("oracle", Behaviour::Hold).await;
    sound.behave(Behaviour::Answer);
    // Two at once: the second goes to whichever instance the first did not, so one of them meets the hanging one.
    let (one, two) = tokio::join!(mesh.ask("ask oracle something"), mesh.ask("ask oracle something"));
    let mut attempts = Vec::new();
    for reply in [one, two] {
        let reply = reply.expect("the sound one answers").replies.remove(0);
        assert_eq!(reply.instance, sound.instance);
        attempts.push(reply.attempts.len());
    }
    attempts.sort_unstable();
    assert_eq!(attempts, [1, 2]);
    hanging.abandoned(1).await;
}
