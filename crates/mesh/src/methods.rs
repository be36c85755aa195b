//! Which methods a server has, read from descriptor sets. Metric labels come from here, so that a client which makes
//! names up cannot make time series; and so does whether a deadline can be kept from outside.

use std::{collections::BTreeMap, sync::Arc};

use prost::Message;
use prost_types::FileDescriptorSet;

use crate::serve::Error;

/// What a method outside the known ones is called in metrics and logs.
pub const OTHER: &str = "_OTHER";

/// Clones share the same table.
#[derive(Debug, Clone, Default)]
pub struct Methods(Arc<BTreeMap<String, Method>>);

#[derive(Debug, Clone)]
struct Method {
    /// `package.Service/Method`, as OpenTelemetry wants `rpc.method`.
    name: Arc<str>,
    takes_stream: bool,
}

impl Methods {
    /// Reads encoded `FileDescriptorSet`s.
    ///
    /// # Errors
    /// [`Error::Descriptors`] when one does not decode.
    pub fn read<'a>(sets: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, Error> {
        let mut methods = BTreeMap::new();
        for set in sets {
            let set = FileDescriptorSet::decode(set).map_err(Error::Descriptors)?;
            for file in &set.file {
                for service in &file.service {
                    for method in &service.method {
                        let name = format!("{}.{}/{}", file.package(), service.name(), method.name());
                        let takes_stream = method.client_streaming();
                        methods.insert(format!("/{name}"), Method { name: name.into(), takes_stream });
                    }
                }
            }
        }
        Ok(Self(Arc::new(methods)))
    }

    /// The label of a request path.
    pub fn name(&self, path: &str) -> Arc<str> {
        self.0.get(path).map_or_else(|| Arc::from(OTHER), |method| Arc::clone(&method.name))
    }

    /// Whether the request is a stream. One of a path that is not known is none.
    pub fn takes_stream(&self, path: &str) -> bool {
        self.0.get(path).is_some_and(|method| method.takes_stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_agrees_with_the_contract() {
        let methods = Methods::read([consilium_proto::DESCRIPTOR_SET]).unwrap();
        assert!(methods.takes_stream("/inference.GRPCInferenceService/ModelStreamInfer"));
        assert!(!methods.takes_stream("/consilium.v1.RouterService/StreamDispatch"));
        assert_eq!(&*methods.name("/consilium.v1.RouterService/Dispatch"), "consilium.v1.RouterService/Dispatch");
        assert_eq!(&*methods.name("/consilium.v1.RouterService/MadeUp"), OTHER);
        assert!(Methods::read([&[0xff_u8, 0xff][..]]).is_err());
    }
}
