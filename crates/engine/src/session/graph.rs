//! What a loaded graph takes and gives: held against a manifest, or written into one.

use ort::session::{OverridableInitializer, Session};
use ort::value::{Outlet, ValueType};

use super::values::from_element_type;
use crate::manifest::{Manifest, TensorEntry};
use crate::onnx::{Contents, Port};

/// The inputs and outputs of a session.
pub(super) struct Graph<'s> {
    inputs: &'s [Outlet],
    outputs: &'s [Outlet],
    /// Inputs that the graph has a value for.
    optional: Vec<OverridableInitializer>,
}

/// What ONNX Runtime says of an input or output.
struct Found<'g> {
    dtype: &'g ValueType,
    optional: bool,
}

impl<'s> Graph<'s> {
    pub(super) fn of(session: &'s Session) -> Self {
        Self { inputs: session.inputs(), outputs: session.outputs(), optional: session.overridable_initializers() }
    }

    /// Everything in which the graph differs from what the manifest says of it.
    pub(super) fn mismatches(&self, manifest: &Manifest) -> Vec<String> {
        let mut problems = Vec::new();
        for (at, entry) in manifest.inputs.iter().enumerate() {
            let found = self.input(&entry.name);
            if entry.optional && found.as_ref().is_some_and(|found| !found.optional) {
                problems.push(format!("inputs[{at}].optional: the graph has no value for it"));
            }
            compare(&format!("inputs[{at}]"), entry, found.as_ref(), &mut problems);
        }
        for (at, entry) in manifest.outputs.iter().enumerate() {
            compare(&format!("outputs[{at}]"), entry, self.output(&entry.name).as_ref(), &mut problems);
        }
        for outlet in self.inputs {
            if !manifest.inputs.iter().any(|entry| entry.name == outlet.name()) {
                problems.push(format!("inputs: the graph also needs `{}`", outlet.name()));
            }
        }
        problems
    }

    /// Fills in the inputs and outputs of a manifest that has none, in the graph's order. Gives what no tensor of the
    /// protocol fits.
    pub(super) fn describe(&self, contents: &Contents<'_>, manifest: &mut Manifest) -> Vec<String> {
        let mut problems = Vec::new();
        // An initialiser that the file lists as an input and ONNX Runtime does not offer is a weight.
        let inputs = contents.inputs.iter().filter_map(|port| Some((port, self.input(port.name)?)));
        for (port, found) in inputs {
            match entry(port, &found) {
                Ok(entry) => manifest.inputs.push(entry),
                // One that need not be given need not be offered.
                Err(_) if contents.initialised.contains(port.name) => {}
                Err(problem) => problems.push(format!("inputs{problem}")),
            }
        }
        let outputs = contents.outputs.iter().filter_map(|port| Some((port, self.output(port.name)?)));
        for (port, found) in outputs {
            match entry(port, &found) {
                Ok(entry) => manifest.outputs.push(entry),
                Err(problem) => problems.push(format!("outputs{problem}")),
            }
        }
        problems
    }

    fn input(&self, name: &str) -> Option<Found<'_>> {
        let optional = || self.optional.iter().find(|input| input.name() == name);
        // An input of an optional type takes its tensor as any other does, and the model runs without it.
        let declared = find(self.inputs, name).map(|dtype| match dtype {
            ValueType::Optional(inner) => Found { dtype: inner, optional: true },
            dtype => Found { dtype, optional: false },
        });
        declared.or_else(|| optional().map(|input| Found { dtype: input.dtype(), optional: true }))
    }

    fn output(&self, name: &str) -> Option<Found<'_>> {
        find(self.outputs, name).map(|dtype| Found { dtype, optional: false })
    }
}

fn find<'g>(outlets: &'g [Outlet], name: &str) -> Option<&'g ValueType> {
    outlets.iter().find(|outlet| outlet.name() == name).map(Outlet::dtype)
}

fn compare(field: &str, entry: &TensorEntry, found: Option<&Found<'_>>, problems: &mut Vec<String>) {
    let Some(Found { dtype, .. }) = found else {
        problems.push(format!("{field}.name: the graph has no `{}`", entry.name));
        return;
    };
    if dtype.tensor_type().and_then(from_element_type) != Some(entry.datatype) {
        problems.push(format!("{field}.datatype: the graph says {dtype}"));
    }
    // An output of unknown rank has no dimensions here, like a scalar.
    let shape = dtype.tensor_shape().map(|shape| &shape[..]).filter(|shape| !shape.is_empty());
    let fits = |shape: &[i64]| {
        let mut sizes = shape.iter().zip(&entry.shape);
        shape.len() == entry.shape.len() && sizes.all(|(graph, entry)| graph == entry || *graph == -1)
    };
    if shape.is_some_and(|shape| !fits(shape)) {
        problems.push(format!("{field}.shape: the graph says {dtype}"));
    }
}

/// `Err` goes on after `inputs` or `outputs`.
fn entry(port: &Port<'_>, found: &Found<'_>) -> Result<TensorEntry, String> {
    let name = port.name;
    let Some((datatype, shape)) = found.dtype.tensor_type().and_then(from_element_type).zip(found.dtype.tensor_shape())
    else {
        let expected = "expected a tensor of a datatype of the Open Inference Protocol";
        return Err(format!("[{name}]: {}; {expected}", found.dtype));
    };
    Ok(TensorEntry {
        name: name.to_owned(),
        datatype,
        // Any negative size is one that the graph does not fix.
        shape: shape.iter().map(|size| (*size).max(-1)).collect(),
        optional: found.optional,
        any_rank: shape.is_empty() && !port.kind.is_ranked(),
    })
}
