//! Asking something that nobody knows is not an error: an OK reply without an answer, and the reason.

use consilium_proto::v1::decision::Outcome;
use consilium_tests::Mesh;

#[tokio::test]
async fn foreign_questions_are_refused_and_nobody_is_called() {
    let (mesh, _experts) = Mesh::of_three().await;
    for text in ["write a poem about the autumn sea", "who won the football cup", "zzyzx qwrt plugh"] {
        let response = mesh.ask(text).await.expect("a refusal is an OK reply");
        let decision = response.decision.expect("a response has a decision");
        assert_eq!((decision.outcome(), decision.reason.as_str()), (Outcome::Refused, "OUT_OF_SCOPE"), "{text}");
        assert!(response.answer.is_none() && response.replies.is_empty(), "{text}");
        assert_eq!(decision.candidates.len(), 3, "every expert was considered");
        assert!(decision.candidates.iter().all(|candidate| !candidate.selected));
    }
}
