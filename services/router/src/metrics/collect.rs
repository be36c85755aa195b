//! What is read when the page is printed: how the gate, the experts and their instances are at that moment. Nothing is
//! left behind of an expert or an instance that is gone.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use arc_swap::ArcSwap;
use consilium_gate::Gate;
use consilium_mesh::metrics::Metrics as Page;
use consilium_metrics::Described;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, NoLabelSet},
};

use super::{FAILURES, GATE_EXPERTS, IN_FLIGHT, INSTANCES, LATENCY, PICKS, RULE_ERRORS, SLO_LATENCY, SLO_OBJECTIVE};
use crate::{
    balance::{Health, Standing},
    catalog::Catalog,
};

/// Prints on `page` how `gate` and `catalog` are, for as long as there are any: a page outlives a router, and what a router
/// knows holds connections.
pub(crate) fn watch(page: &Page, gate: &Arc<Gate>, catalog: &Arc<ArcSwap<Catalog>>) {
    page.register(|sheet| {
        sheet.collect(OfGate(Arc::downgrade(gate)));
        sheet.collect(OfCatalog(Arc::downgrade(catalog)));
    });
}

#[derive(Debug)]
struct OfGate(Weak<Gate>);

#[derive(Debug)]
struct OfCatalog(Weak<ArcSwap<Catalog>>);

impl Collector for OfGate {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(gate) = self.0.upgrade() else { return Ok(()) };
        let experts = i64::try_from(gate.experts()).unwrap_or(i64::MAX);
        GATE_EXPERTS.encode(&mut encoder)?.encode_gauge(&experts)?;
        RULE_ERRORS.encode(&mut encoder)?.encode_counter::<NoLabelSet, _, u64>(&gate.rule_errors(), None)
    }
}

impl Collector for OfCatalog {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(catalog) = self.0.upgrade() else { return Ok(()) };
        let catalog = catalog.load();
        encode_instances(&catalog, &mut encoder)?;
        encode_objectives(&catalog, &mut encoder)?;
        encode_standings(&catalog, &mut encoder)
    }
}

fn encode_instances(catalog: &Catalog, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let mut metric = INSTANCES.encode(encoder)?;
    for expert in catalog.snapshot().experts.values() {
        let healths: Vec<_> = expert.instances.values().map(|instance| catalog.health(instance)).collect();
        for state in Health::ALL {
            let count = healths.iter().filter(|health| **health == state).count();
            let labels = [("expert", expert.name.as_str()), ("state", state.as_str())];
            metric.encode_family(&labels)?.encode_gauge(&i64::try_from(count).unwrap_or(i64::MAX))?;
        }
    }
    Ok(())
}

/// Of the version that queries go to.
fn encode_objectives(catalog: &Catalog, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let experts = catalog.snapshot().experts.keys();
    let objectives: Vec<_> =
        experts.filter_map(|expert| Some((expert.as_str(), catalog.target(expert, None)?.card.slo))).collect();
    let mut metric = SLO_OBJECTIVE.encode(encoder)?;
    for (expert, slo) in &objectives {
        metric.encode_family(&[("expert", *expert)])?.encode_gauge(&slo.objective)?;
    }
    let mut metric = SLO_LATENCY.encode(encoder)?;
    for (expert, slo) in &objectives {
        metric.encode_family(&[("expert", *expert)])?.encode_gauge(&slo.latency.as_secs_f64())?;
    }
    Ok(())
}

fn encode_standings(catalog: &Catalog, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let experts = catalog.snapshot().experts.keys();
    let standings: Vec<_> = experts
        .filter_map(|expert| Some((expert.as_str(), catalog.pool(expert)?.standings())))
        .flat_map(|(expert, standings)| standings.into_iter().map(move |standing| (expert, standing)))
        .collect();
    let page = Standings(&standings);
    page.count(&PICKS, encoder, |standing| standing.picks)?;
    page.count(&FAILURES, encoder, |standing| standing.failures)?;
    page.gauge(&IN_FLIGHT, encoder, |standing| standing.in_flight)?;
    page.gauge(&LATENCY, encoder, |standing| standing.latency.as_secs_f64())
}

/// Instances, each with the name of its expert.
struct Standings<'a>(&'a [(&'a str, Standing)]);

impl Standings<'_> {
    fn count<V: EncodeCounterValue>(
        &self,
        described: &Described,
        encoder: &mut DescriptorEncoder<'_>,
        value: impl Fn(&Standing) -> V,
    ) -> fmt::Result {
        let mut metric = described.encode(encoder)?;
        self.0.iter().try_for_each(|(expert, standing)| {
            let labels = [("expert", *expert), ("expert_instance", standing.instance.as_str())];
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value(standing), None)
        })
    }

    fn gauge<V: EncodeGaugeValue>(
        &self,
        described: &Described,
        encoder: &mut DescriptorEncoder<'_>,
        value: impl Fn(&Standing) -> V,
    ) -> fmt::Result {
        let mut metric = described.encode(encoder)?;
        self.0.iter().try_for_each(|(expert, standing)| {
            let labels = [("expert", *expert), ("expert_instance", standing.instance.as_str())];
            metric.encode_family(&labels)?.encode_gauge(&value(standing))
        })
    }
}
