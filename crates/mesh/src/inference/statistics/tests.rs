use super::*;

const MS: Duration = Duration::from_millis(1);

fn call(inferences: u64) -> Call {
    Call { inferences, total: MS * 10, queue: MS, input: MS * 2, infer: MS * 3, output: MS * 4 }
}

fn of(duration: Option<StatisticDuration>) -> (u64, u64) {
    duration.map(|duration| (duration.count, duration.ns / 1_000_000)).unwrap()
}

#[test]
fn every_call_is_counted_once_in_every_phase() {
    let statistics = Statistics::default();
    let idle = statistics.message("m", "1", &[]);
    assert_eq!((idle.last_inference, idle.inference_count, idle.execution_count), (0, 0, 0));
    assert_eq!(of(idle.inference_stats.unwrap().queue), (0, 0), "present from the start");

    statistics.answered(call(4));
    statistics.answered(call(1));
    statistics.failed(MS * 7);
    let message = statistics.message("m", "1", &[]);
    assert_eq!((message.inference_count, message.execution_count), (5, 2));
    assert!(message.last_inference > 1_700_000_000_000, "milliseconds since 1970");
    let stats = message.inference_stats.unwrap();
    assert_eq!((of(stats.success), of(stats.fail)), ((2, 20), (1, 7)));
    assert_eq!((of(stats.queue), of(stats.compute_input)), ((2, 2), (2, 4)));
    assert_eq!((of(stats.compute_infer), of(stats.compute_output)), ((2, 6), (2, 8)));
    assert_eq!((of(stats.cache_hit), of(stats.cache_miss)), ((0, 0), (0, 0)));

    let message = statistics.message("m", "1", &[(1, 1, MS), (4, 2, MS * 5)]);
    assert_eq!(message.execution_count, 3);
    let batches = message.batch_stats.iter().map(|batch| (batch.batch_size, of(batch.compute_infer)));
    assert_eq!(batches.collect::<Vec<_>>(), [(1, (1, 1)), (4, (2, 5))]);
}

#[test]
fn instances_are_added_up_by_name_and_version_and_never_overflow() {
    let (one, two) = (Statistics::default(), Statistics::default());
    one.answered(call(1));
    two.answered(call(2));
    two.failed(MS);
    let messages = [
        one.message("m", "1", &[(1, 1, MS), (4, 1, MS)]),
        two.message("m", "1", &[(2, 3, MS), (4, 1, MS * 2)]),
        two.message("m", "2", &[]),
        two.message("a", "1", &[]),
        oip::ModelStatistics { name: "a".into(), version: "1".into(), inference_count: u64::MAX, ..Default::default() },
    ];
    let newest = messages[1].last_inference.max(messages[0].last_inference);
    let sums = Statistics::sum(messages);
    let names: Vec<_> = sums.iter().map(|sum| (sum.name.as_str(), sum.version.as_str())).collect();
    assert_eq!(names, [("a", "1"), ("m", "1"), ("m", "2")]);
    assert_eq!(sums[0].inference_count, u64::MAX);
    let sum = &sums[1];
    assert_eq!((sum.inference_count, sum.execution_count, sum.last_inference), (3, 6, newest));
    let stats = sum.inference_stats.unwrap();
    assert_eq!((of(stats.success), of(stats.fail), of(stats.queue)), ((2, 20), (1, 1), (2, 2)));
    let batches = sum.batch_stats.iter().map(|batch| (batch.batch_size, of(batch.compute_infer)));
    assert_eq!(batches.collect::<Vec<_>>(), [(1, (1, 1)), (2, (3, 1)), (4, (2, 3))]);
}
