//! A request that is refused: its status, and what its answer says.

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::mesos::scheduler::core::{Refusal, RefusalKind};

/// The answer to a request that is refused.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    pub(super) body: Value,
    /// The methods that the path has, when the request's method is the mistake.
    pub(super) allow: Vec<Method>,
}

impl Refused {
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Refused {
        Refused {
            status,
            body: json!({"error": error.into()}),
            allow: Vec::new(),
        }
    }

    /// Adds what the client can do instead.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Refused {
        self.body["hint"] = hint.into().into();
        self
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Refused {
        let status = match refusal.kind {
            RefusalKind::Unknown => StatusCode::NOT_FOUND,
            RefusalKind::Conflict => StatusCode::CONFLICT,
            RefusalKind::Invalid => StatusCode::BAD_REQUEST,
            RefusalKind::Quota => StatusCode::FORBIDDEN,
        };
        Refused {
            status,
            body: json!({"error": refusal.message, "hint": refusal.hint}),
            allow: Vec::new(),
        }
    }
}
