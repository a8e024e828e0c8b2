// SPDX-License-Identifier: Apache-2.0

//! Who may do what: accounts, the rules they are granted, and the decision. Pure.
//!
//! Rules are Kubernetes' own [`PolicyRule`]s with Kubernetes' meaning, so that one table can be given to this server and written as RBAC for a cluster. The caller
//! names the accounts in [`crate::Options::accounts`]; the crate makes up none but the administrator. `front` asks for every request, `reviews` for the
//! `authorization.k8s.io` kinds. It never sees a token.

use http::Method;
use k8s_openapi::api::rbac::v1::PolicyRule;

use crate::request::{Address, Query, Target, Verb};
use crate::status::AccessDenied;

/// Group of those who may do everything.
const MASTERS: &str = "system:masters";
/// Group of everybody with a token.
const AUTHENTICATED: &str = "system:authenticated";
/// Group of everybody without.
const UNAUTHENTICATED: &str = "system:unauthenticated";
/// Who has no token.
const ANONYMOUS: &str = "system:anonymous";

/// Verbs that change nothing.
const READING: [&str; 3] = ["get", "list", "watch"];

/// Paths that need no token, as Kubernetes' role `system:public-info-viewer` has them.
const PUBLIC: &[&str] = &["/healthz", "/livez", "/readyz", "/version", "/version/"];
/// Paths that everybody with a token may read (`system:discovery`).
const DISCOVERY: &[&str] = &[
    "/api",
    "/api/*",
    "/apis",
    "/apis/*",
    "/openapi",
    "/openapi/*",
    "/healthz",
    "/livez",
    "/readyz",
    "/version",
    "/version/",
];

/// Whether accounts may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writes {
    /// As their rules say.
    Allowed,
    /// Only the administrator may; others read what their rules let them read.
    Suspended,
}

/// Where rules hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// In every namespace, for what is in none, and for paths (a ClusterRoleBinding).
    Cluster,
    /// In these namespaces (a RoleBinding in each).
    In(Vec<String>),
    /// In every namespace but these, one at a time: a list of all namespaces is not included. RBAC has no such thing; a cluster binds the role where it is wanted.
    AllBut(Vec<String>),
}

impl Scope {
    fn covers(&self, namespace: &str) -> bool {
        let is_in = |names: &[String]| names.iter().any(|name| name == namespace);
        match self {
            Self::Cluster => true,
            Self::In(names) => !namespace.is_empty() && is_in(names),
            Self::AllBut(names) => !namespace.is_empty() && !is_in(names),
        }
    }
}

/// Rules and where they hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Grant {
    /// Where.
    pub scope: Scope,
    /// What. Rules for paths count only with [`Scope::Cluster`].
    pub rules: Vec<PolicyRule>,
}

/// A user with what they may do, beside what everybody may: ask which kinds there are, and what they themselves may do.
#[derive(Debug, Clone, PartialEq)]
pub struct Account {
    name: String,
    groups: Vec<String>,
    grants: Vec<Grant>,
}

impl Account {
    /// A user of this name; `groups` beside `system:authenticated`.
    pub fn new(name: impl Into<String>, groups: Vec<String>, grants: Vec<Grant>) -> Self {
        Self { name: name.into(), groups, grants }.with_group(AUTHENTICATED)
    }

    /// The service account `name` of `namespace`, called as Kubernetes calls it, so that messages and logs are the same on both.
    pub fn service_account(namespace: &str, name: &str, grants: Vec<Grant>) -> Self {
        let groups = vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
        Self::new(format!("system:serviceaccount:{namespace}:{name}"), groups, grants)
    }

    /// Somebody who may do everything.
    pub fn admin(name: impl Into<String>) -> Self {
        Self::new(name, vec![MASTERS.to_owned()], Vec::new())
    }

    pub(crate) fn anonymous() -> Self {
        Self { name: ANONYMOUS.into(), groups: vec![UNAUTHENTICATED.into()], grants: Vec::new() }
    }

    fn with_group(mut self, group: &str) -> Self {
        if !self.groups.iter().any(|known| known == group) {
            self.groups.push(group.to_owned());
        }
        self
    }

    /// The same rules under other groups; `system:masters` brings all.
    pub(crate) fn in_groups(self, groups: Vec<String>) -> Self {
        Self { groups, ..self }.with_group(AUTHENTICATED)
    }

    /// The user's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The user's groups.
    pub fn groups(&self) -> &[String] {
        &self.groups
    }

    fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|known| known == group)
    }

    /// May do everything: nothing needs to be asked.
    pub(crate) fn is_master(&self) -> bool {
        self.is_in(MASTERS)
    }

    /// Whether the user may do this.
    pub(crate) fn allows(&self, wanted: &Attributes) -> bool {
        if self.is_master() {
            return true;
        }
        let common = self.common();
        let granted = self.grants.iter().filter(|grant| match &wanted.what {
            What::Path(_) => grant.scope == Scope::Cluster,
            What::Resource(resource) => grant.scope.covers(&resource.namespace),
        });
        granted.flat_map(|grant| &grant.rules).chain(&common).any(|rule| matches(rule, wanted))
    }

    /// The same user with what only reads of what they may do.
    pub(crate) fn read_only(&self) -> Self {
        let reads = |rule: &PolicyRule| {
            let may = |verb: &&&str| rule.verbs.iter().any(|known| known == "*" || known == **verb);
            let verbs: Vec<String> = READING.iter().filter(may).map(|verb| (*verb).to_owned()).collect();
            (!verbs.is_empty()).then(|| PolicyRule { verbs, ..rule.clone() })
        };
        let grants = self.grants.iter();
        let grants = grants
            .map(|grant| Grant { rules: grant.rules.iter().filter_map(reads).collect(), ..grant.clone() });
        Self { name: self.name.clone(), groups: self.groups.clone(), grants: grants.collect() }
    }

    /// Every rule that holds in a namespace.
    pub(crate) fn rules_in(&self, namespace: &str) -> Vec<PolicyRule> {
        if self.is_master() {
            let all = || vec!["*".to_owned()];
            let resources = PolicyRule {
                api_groups: Some(all()),
                resources: Some(all()),
                verbs: all(),
                ..PolicyRule::default()
            };
            let paths = PolicyRule { non_resource_urls: Some(all()), verbs: all(), ..PolicyRule::default() };
            // What everybody may is told of them, too.
            return [resources, paths].into_iter().chain(self.common()).collect();
        }
        let granted = self.grants.iter().filter(|grant| grant.scope.covers(namespace));
        granted.flat_map(|grant| grant.rules.iter().cloned()).chain(self.common()).collect()
    }

    /// What Kubernetes' default roles give to everybody (`system:public-info-viewer`, `system:discovery`, `system:basic-user`).
    fn common(&self) -> Vec<PolicyRule> {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let paths = |names: &[&str]| PolicyRule {
            non_resource_urls: Some(list(names)),
            verbs: list(&["get"]),
            ..PolicyRule::default()
        };
        let create = |group: &str, resources: &[&str]| PolicyRule {
            api_groups: Some(list(&[group])),
            resources: Some(list(resources)),
            verbs: list(&["create"]),
            ..PolicyRule::default()
        };
        if !self.is_in(AUTHENTICATED) {
            return vec![paths(PUBLIC)];
        }
        vec![
            paths(DISCOVERY),
            paths(PUBLIC),
            create("authorization.k8s.io", &["selfsubjectaccessreviews", "selfsubjectrulesreviews"]),
            create("authentication.k8s.io", &["selfsubjectreviews"]),
        ]
    }
}

/// What somebody wants to do, in the words of rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub verb: String,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    Path(String),
    Resource(Resource),
}

/// The resource part; empty strings where the request has nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Resource {
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
}

impl Attributes {
    /// From a request, whether or not it addresses something that is there: who may not ask is not told.
    pub fn of(method: &Method, path: &str, query: &str) -> Self {
        match Target::parse(path) {
            Some(Target::Resource(address)) => Self::of_address(method, address, query),
            _ => Self { verb: method.as_str().to_lowercase(), what: What::Path(path.to_owned()) },
        }
    }

    fn of_address(method: &Method, address: Address, query: &str) -> Self {
        let query = Query::parse(query).unwrap_or_default();
        // Who may not read is not told that there is no HEAD.
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        let verb = match Verb::of(method, &address, query.watch) {
            Some(Verb::Get) => "get",
            Some(Verb::List) => "list",
            Some(Verb::Watch) => "watch",
            Some(Verb::Create) => "create",
            Some(Verb::Update) => "update",
            Some(Verb::Patch) => "patch",
            Some(Verb::Delete) => "delete",
            Some(Verb::DeleteCollection) => "deletecollection",
            // A POST to an object or a PUT to a collection: answered with 405 where it is allowed.
            None if *method == Method::POST => "create",
            None if *method == Method::PUT => "update",
            None if *method == Method::PATCH => "patch",
            None => "",
        };
        // A collection narrowed to one name counts as that object, so that rules with names allow to watch it.
        let name = match verb {
            "list" | "watch" | "deletecollection" => {
                address.name.or_else(|| only_name(&query.field_selector)).unwrap_or_default()
            }
            _ => address.name.unwrap_or_default(),
        };
        // A namespace itself counts as being in itself.
        let own = || (address.group.is_empty() && address.plural == "namespaces").then(|| name.clone());
        let namespace = address.namespace.or_else(own).unwrap_or_default();
        let subresource = address.subresource.unwrap_or_default();
        let what = Resource { group: address.group, resource: address.plural, subresource, namespace, name };
        Self { verb: verb.to_owned(), what: What::Resource(what) }
    }

    /// Acting as somebody else.
    pub fn impersonate(resource: &str, namespace: &str, name: &str) -> Self {
        let what = Resource {
            resource: resource.into(),
            namespace: namespace.into(),
            name: name.into(),
            ..Resource::default()
        };
        Self { verb: "impersonate".into(), what: What::Resource(what) }
    }

    /// Kubernetes' words for a refusal.
    pub fn denied(&self, user: &str) -> AccessDenied {
        let verb = &self.verb;
        match &self.what {
            What::Path(path) => AccessDenied {
                message: sanitised(&format!("User \"{user}\" cannot {verb} path \"{path}\"")),
                ..AccessDenied::default()
            },
            What::Resource(wanted) => {
                let mut resource = wanted.resource.clone();
                if !wanted.subresource.is_empty() {
                    resource = format!("{resource}/{}", wanted.subresource);
                }
                let place = match wanted.namespace.as_str() {
                    "" => "at the cluster scope".to_owned(),
                    namespace => format!("in the namespace \"{namespace}\""),
                };
                let group = &wanted.group;
                let message = format!(
                    "User \"{user}\" cannot {verb} resource \"{resource}\" in API group \"{group}\" {place}"
                );
                AccessDenied {
                    group: group.clone(),
                    resource: wanted.resource.clone(),
                    name: wanted.name.clone(),
                    message: sanitised(&message),
                }
            }
        }
    }
}

/// Kubernetes escapes these in refusals, as they may end up in a browser.
fn sanitised(message: &str) -> String {
    message.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The name that `metadata.name=x` among the terms of a field selector asks for.
fn only_name(selector: &str) -> Option<String> {
    let terms = selector.split(',').map(str::trim).filter(|term| !term.contains("!="));
    let mut names =
        terms.filter_map(|term| term.strip_prefix("metadata.name=")).map(|rest| rest.trim_start_matches('='));
    names.next().filter(|name| !name.is_empty() && !name.contains(['/', '\\', '%'])).map(str::to_owned)
}

/// One rule against one request, as `k8s.io/kubernetes/pkg/apis/rbac/v1` evaluates it.
fn matches(rule: &PolicyRule, wanted: &Attributes) -> bool {
    let either = |list: &[String], value: &str| list.iter().any(|entry| entry == "*" || entry == value);
    let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    if !either(&rule.verbs, &wanted.verb) {
        return false;
    }
    match &wanted.what {
        What::Path(path) => rule.non_resource_urls.iter().flatten().any(|url| match url.strip_suffix('*') {
            Some(prefix) => path.starts_with(prefix),
            None => url == path,
        }),
        What::Resource(resource) => {
            let names = rule.resource_names.as_deref().unwrap_or_default();
            either(&list(&rule.api_groups), &resource.group)
                && rule.resources.iter().flatten().any(|entry| names_resource(entry, resource))
                && (names.is_empty() || names.contains(&resource.name))
        }
    }
}

/// `*`, `plural`, `plural/subresource` or `*/subresource`.
fn names_resource(entry: &str, wanted: &Resource) -> bool {
    if entry == "*" {
        return true;
    }
    match (entry.split_once('/'), wanted.subresource.as_str()) {
        (None, "") => entry == wanted.resource,
        (Some((plural, subresource)), asked) if !asked.is_empty() => {
            subresource == asked && (plural == "*" || plural == wanted.resource)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(verbs: &[&str], group: &str, resources: &[&str], names: &[&str]) -> PolicyRule {
        let list = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        PolicyRule {
            verbs: list(verbs),
            api_groups: Some(vec![group.to_owned()]),
            resources: Some(list(resources)),
            resource_names: (!names.is_empty()).then(|| list(names)),
            non_resource_urls: None,
        }
    }

    fn account(scope: Scope, rules: Vec<PolicyRule>) -> Account {
        Account::service_account("home", "x", vec![Grant { scope, rules }])
    }

    fn asks(account: &Account, method: &str, path: &str, query: &str) -> bool {
        account.allows(&Attributes::of(&method.parse().unwrap(), path, query))
    }

    #[test]
    fn rules_hold_for_their_verbs_resources_subresources_and_names() {
        let widgets = "/apis/example.org/v1/namespaces/a/widgets";
        let reader = account(Scope::Cluster, vec![rule(&["get", "watch"], "example.org", &["widgets"], &[])]);
        assert!(asks(&reader, "GET", &format!("{widgets}/w"), ""));
        assert!(asks(&reader, "GET", widgets, "watch=true"));
        assert!(asks(&reader, "GET", "/apis/example.org/v1/widgets", "watch=1"));
        assert!(!asks(&reader, "GET", widgets, ""), "list is another verb");
        assert!(!asks(&reader, "GET", &format!("{widgets}/w/status"), ""));
        assert!(!asks(&reader, "GET", "/apis/other.org/v1/namespaces/a/widgets/w", ""));
        assert!(!asks(&reader, "DELETE", &format!("{widgets}/w"), ""));
        let status = account(
            Scope::Cluster,
            vec![rule(&["patch"], "example.org", &["widgets/status", "*/scale"], &[])],
        );
        assert!(asks(&status, "PATCH", &format!("{widgets}/w/status"), ""));
        assert!(asks(&status, "PATCH", &format!("{widgets}/w/scale"), ""));
        assert!(!asks(&status, "PATCH", &format!("{widgets}/w"), ""));
        let one = account(Scope::Cluster, vec![rule(&["get", "watch", "list"], "", &["secrets"], &["s"])]);
        let secrets = "/api/v1/namespaces/a/secrets";
        assert!(asks(&one, "GET", &format!("{secrets}/s"), ""));
        assert!(asks(&one, "GET", secrets, "watch=true&fieldSelector=metadata.name%3Ds"));
        assert!(!asks(&one, "GET", secrets, "watch=true&fieldSelector=metadata.name!%3Ds"));
        assert!(!asks(&one, "GET", secrets, ""));
        assert!(!asks(&one, "GET", &format!("{secrets}/t"), ""));
    }

    #[test]
    fn scopes_hold_where_they_say() {
        let secrets = || vec![rule(&["get", "list"], "", &["secrets"], &[])];
        let path = |namespace: &str| format!("/api/v1/namespaces/{namespace}/secrets/s");
        let within = account(Scope::In(vec!["a".into()]), secrets());
        assert!(asks(&within, "GET", &path("a"), "") && !asks(&within, "GET", &path("b"), ""));
        let but = account(Scope::AllBut(vec!["a".into()]), secrets());
        assert!(!asks(&but, "GET", &path("a"), "") && asks(&but, "GET", &path("b"), ""));
        for one in [&within, &but] {
            assert!(!asks(one, "GET", "/api/v1/secrets", ""), "not all namespaces at once");
        }
        let namespaces = account(Scope::In(vec!["a".into()]), vec![rule(&["get"], "", &["namespaces"], &[])]);
        assert!(asks(&namespaces, "GET", "/api/v1/namespaces/a", ""));
        assert!(!asks(&namespaces, "GET", "/api/v1/namespaces/b", ""));
    }

    #[test]
    fn everybody_may_look_around_and_ask_about_themselves() {
        let nobody = account(Scope::Cluster, Vec::new());
        for path in ["/apis", "/apis/example.org/v1", "/openapi/v3", "/version", "/healthz"] {
            assert!(asks(&nobody, "GET", path, ""), "{path}");
        }
        assert!(!asks(&nobody, "GET", "/metrics", ""));
        assert!(asks(&nobody, "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", ""));
        assert!(!asks(&nobody, "POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", ""));
        assert!(asks(&Account::anonymous(), "GET", "/readyz", ""));
        assert!(!asks(&Account::anonymous(), "GET", "/apis", ""));
        assert!(asks(&Account::admin("admin"), "DELETE", "/api/v1/namespaces/a/secrets", ""));
    }

    #[test]
    fn refusals_have_kubernetes_words() {
        let text = |path: &str| Attributes::of(&Method::GET, path, "").denied("u").message;
        assert_eq!(
            text("/apis/g.io/v1/namespaces/n/things/t/status"),
            "User \"u\" cannot get resource \"things/status\" in API group \"g.io\" in the namespace \"n\""
        );
        assert_eq!(
            text("/api/v1/secrets"),
            "User \"u\" cannot list resource \"secrets\" in API group \"\" at the cluster scope"
        );
        assert_eq!(text("/metrics<"), "User \"u\" cannot get path \"/metrics&lt;\"");
    }
}
