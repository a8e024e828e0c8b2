// SPDX-License-Identifier: Apache-2.0

//! The gRPC contracts between agents and the provisioning server, as messages, clients and servers.
//!
//! Owns the `.proto` files and what is generated from them. `tink-server` serves both services, `tink-worker` calls
//! them. No behaviour lives here, and nothing in [`workflow`] may change its bytes on the wire: agents and servers that
//! we do not build speak it.
//!
//! Scalars of [`workflow`] are `Option`s, since its peers tell absent from empty. Every such field `x` has a reader
//! `x()` that gives the value or its default.

pub use generated::{proto as workflow, tinkerbell::agent};

#[allow(
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::too_many_lines,
    missing_docs,
    reason = "generated code"
)]
mod generated {
    pub mod proto {
        tonic::include_proto!("proto");
    }
    pub mod tinkerbell {
        pub mod agent {
            pub mod v1 {
                tonic::include_proto!("tinkerbell.agent.v1");
            }
        }
    }
}

/// The descriptors of both contracts and of what they import, as an encoded `google.protobuf.FileDescriptorSet`: what
/// gRPC server reflection serves.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::{agent::v1 as agent, workflow};

    /// Bytes written by hand from the field table: number, wire type, value.
    #[test]
    fn action_status_request_has_the_fixed_bytes() {
        let request = workflow::ActionStatusRequest {
            workflow_id: Some("t/w".to_owned()),
            agent_id: Some("a".to_owned()),
            task_id: Some("k".to_owned()),
            action_id: Some("c".to_owned()),
            action_name: Some(String::new()),
            action_state: Some(workflow::action_status_request::StateType::Success.into()),
            execution_start: Some(prost_types::Timestamp { seconds: 1, nanos: 0 }),
            execution_stop: None,
            execution_duration: Some("1s".to_owned()),
            message: Some(workflow::ActionMessage { message: Some("ok".to_owned()) }),
        };
        let bytes = b"\x0a\x03t/w\x12\x01a\x1a\x01k\x22\x01c\x2a\x00\x30\x05\x3a\x02\x08\x01\x4a\x021s\x52\x04\x0a\x02ok";
        assert_eq!(request.encode_to_vec(), bytes);
        assert_eq!(workflow::ActionStatusRequest::decode(&bytes[..]).unwrap(), request);
    }

    #[test]
    fn an_explicit_zero_is_sent_and_an_absent_one_is_not() {
        let mut response = workflow::ActionResponse { timeout: Some(0), ..Default::default() };
        assert_eq!(response.encode_to_vec(), b"\x38\x00");
        response.timeout = None;
        assert_eq!(response.encode_to_vec(), b"");
        assert_eq!(response.timeout(), 0);
    }

    #[test]
    fn action_response_numbers_its_lists_and_namespaces() {
        let response = workflow::ActionResponse {
            command: vec!["c".to_owned()],
            volumes: vec!["v".to_owned()],
            environment: vec!["E=1".to_owned()],
            pid: Some("host".to_owned()),
            namespaces: Some(workflow::Namespaces {
                network: Some("n".to_owned()),
                pid: Some("p".to_owned()),
            }),
            ..Default::default()
        };
        assert_eq!(
            response.encode_to_vec(),
            b"\x42\x01c\x4a\x01v\x52\x03E=1\x5a\x04host\x62\x06\x0a\x01n\x12\x01p"
        );
    }

    #[test]
    fn state_names_are_the_ones_stored_in_a_status() {
        use workflow::action_status_request::StateType;
        let names: Vec<_> =
            (0..6).map(|n| StateType::try_from(n).unwrap().as_str_name().to_owned()).collect();
        assert_eq!(names, ["UNSPECIFIED", "PENDING", "RUNNING", "FAILED", "TIMEOUT", "SUCCESS"]);
    }

    #[test]
    fn progress_has_the_fixed_bytes() {
        let event = agent::AgentEvent {
            agent_id: "a".to_owned(),
            event: Some(agent::agent_event::Event::Progress(agent::Progress {
                workflow_id: "w".to_owned(),
                bytes_read: 1,
                bytes_written: 2,
                total_bytes: 3,
                bytes_zero: 4,
                ..Default::default()
            })),
        };
        assert_eq!(event.encode_to_vec(), b"\x0a\x01a\x1a\x0b\x0a\x01w\x20\x01\x28\x02\x30\x03\x38\x04");
    }

    #[test]
    fn descriptors_name_both_services_in_full() {
        let set = prost_types::FileDescriptorSet::decode(super::FILE_DESCRIPTOR_SET).unwrap();
        let services: Vec<_> = set
            .file
            .iter()
            .flat_map(|f| f.service.iter().map(|s| format!("{}.{}", f.package(), s.name())))
            .collect();
        assert!(services.contains(&"proto.WorkflowService".to_owned()), "{services:?}");
        assert!(services.contains(&"tinkerbell.agent.v1.AgentService".to_owned()), "{services:?}");
        assert!(set.file.iter().any(|f| f.name() == "google/protobuf/timestamp.proto"));
    }
}
