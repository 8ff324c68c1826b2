//! The API server that sets are declared on: whether it is new enough, and knows the resource as this build does.

use std::time::Duration;

use drover_api::{crd, set};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList;
use kube::{
    Api, Client,
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::Value;

use super::Finding;

/// The oldest that the chart's `kubeVersion` allows: what an older definition let in can be mended there (validation ratcheting).
pub const MINOR_MIN: u32 = 31;
/// A person waits.
const CALL_MAX: Duration = Duration::from_secs(10);
const DEFINITION: &str = "resource definition";
const APPLY: &str =
    "run `helm upgrade` with the chart of this build, or `drover crd | kubectl apply --server-side -f -`";

/// Looks at the API server behind a client, with whatever rights that has.
pub async fn cluster(client: &Client) -> Vec<Finding> {
    let version = in_time(client.apiserver_version()).await.map(|info| (info.major, info.minor, info.git_version));
    let found = api_server(&version);
    if version.is_err() {
        return vec![found];
    }
    let kind = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let definitions: Api<DynamicObject> = Api::all_with(client.clone(), &ApiResource::from_gvk(&kind));
    let name = format!("{}.{}", ApiResource::erase::<set::MySQLReplicaSet>(&()).plural, set::GROUP);
    let shown = in_time(definitions.get_opt(&name)).await.map(|shown| shown.map(|object| object.data));
    if let Err((Some(403), _)) = shown {
        return vec![found, served(&in_time(client.list_api_group_resources(&group_version())).await)];
    }
    vec![found, definition(&shown)]
}

fn group_version() -> String {
    format!("{}/{}", set::GROUP, set::VERSION)
}

/// Whoever may not read definitions, as the operator's own account, is told all the same what is served: discovery is everybody's.
fn served(resources: &Result<APIResourceList, Failed>) -> Finding {
    match resources {
        Ok(list) if list.resources.iter().any(|resource| resource.kind == set::KIND) => {
            let found = format!("{} is served; these credentials may not compare its schema", set::VERSION);
            Finding::ok(DEFINITION, found)
        }
        Ok(_) | Err((Some(404), _)) => Finding::fail(DEFINITION, format!("{} is not served", group_version()), APPLY),
        Err((_, why)) => Finding::fail(DEFINITION, why, "try again: the API server has trouble"),
    }
}

/// What went wrong with a call, and HTTP's status where there was one.
type Failed = (Option<u16>, String);

async fn in_time<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, Failed> {
    match tokio::time::timeout(CALL_MAX, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) => Err((Some(status.code), status.message.clone())),
        Ok(Err(error)) => Err((None, innermost(&error))),
        Err(_) => Err((None, format!("no answer within {} s", CALL_MAX.as_secs()))),
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), innermost)
}

fn api_server(version: &Result<(String, String, String), Failed>) -> Finding {
    let name = "API server";
    let (major, minor, whole) = match version {
        Ok(version) => version,
        Err((Some(401), why)) => {
            return Finding::fail(name, why, "log in again: the kubeconfig's credentials are not taken");
        }
        Err((_, why)) => {
            return Finding::fail(name, why, "check the kubeconfig's current context and the way to its server");
        }
    };
    // Managed clusters write "33+".
    let number = |text: &str| text.trim_end_matches('+').parse::<u32>().unwrap_or_default();
    if number(major) == 1 && number(minor) < MINOR_MIN {
        let remedy = format!("upgrade the cluster to Kubernetes 1.{MINOR_MIN} or later");
        return Finding::fail(name, format!("{whole} is too old"), remedy);
    }
    Finding::ok(name, whole)
}

fn definition(shown: &Result<Option<Value>, Failed>) -> Finding {
    let shown = match shown {
        Ok(Some(shown)) => shown,
        Ok(None) => return Finding::fail(DEFINITION, format!("there is no kind {}", set::KIND), APPLY),
        Err((_, why)) => return Finding::fail(DEFINITION, why, "try again: the API server has trouble"),
    };
    let versions = shown["spec"]["versions"].as_array().into_iter().flatten();
    let found = versions.into_iter().find(|version| version["name"] == set::VERSION && version["served"] == true);
    let conditions = shown["status"]["conditions"].as_array().into_iter().flatten();
    let is_established = conditions.into_iter().any(|it| it["type"] == "Established" && it["status"] == "True");
    match found {
        None => Finding::fail(DEFINITION, format!("{} is not served", set::VERSION), APPLY),
        Some(_) if !is_established => {
            let remedy = "see `kubectl describe crd`: another definition may have its names";
            Finding::fail(DEFINITION, "it is not established", remedy)
        }
        Some(version) if version["schema"]["openAPIV3Schema"] != *crd::schema() => {
            let found = format!("the schema of {} is another build's than this one's", set::VERSION);
            Finding::fail(DEFINITION, found, APPLY)
        }
        Some(_) => Finding::ok(DEFINITION, format!("{} as this build has it", set::VERSION)),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResource;
    use serde_json::json;

    use super::{super::Level, *};

    fn version(minor: &str) -> Result<(String, String, String), Failed> {
        Ok(("1".into(), minor.into(), format!("v1.{minor}.0")))
    }

    #[test]
    fn an_api_server_is_new_enough_or_is_told_to_be_upgraded() {
        for (minor, level) in [("30", Level::Fail), ("31", Level::Ok), ("33+", Level::Ok), ("9", Level::Fail)] {
            assert_eq!(api_server(&version(minor)).level, level, "{minor}");
        }
        let later = Ok(("2".to_owned(), "0".to_owned(), "v2.0.0".to_owned()));
        assert_eq!(api_server(&later).level, Level::Ok);
        let out = api_server(&Err((Some(401), "Unauthorized".into())));
        assert!(out.level == Level::Fail && out.remedy.is_some_and(|remedy| remedy.contains("log in")));
        assert_eq!(api_server(&Err((None, "connection refused".into()))).found, "connection refused");
    }

    #[test]
    fn a_definition_is_this_builds_or_says_how_it_becomes_so() {
        let whole = || {
            let mut crd = crd::crd();
            crd["status"] = json!({ "conditions": [{ "type": "Established", "status": "True" }] });
            crd
        };
        let with = |change: &dyn Fn(&mut Value)| {
            let mut crd = whole();
            change(&mut crd);
            definition(&Ok(Some(crd)))
        };
        assert_eq!(with(&|_| {}), Finding::ok(DEFINITION, "v1alpha1 as this build has it"));
        let schema = |crd: &mut Value| {
            crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"] = json!({});
        };
        for (finding, found) in [
            (with(&schema), "another build's"),
            (with(&|crd| crd["spec"]["versions"][0]["served"] = json!(false)), "not served"),
            (with(&|crd| crd["status"] = json!({})), "not established"),
            (definition(&Ok(None)), "there is no kind MySQLReplicaSet"),
            (definition(&Err((Some(500), "etcd is away".into()))), "etcd is away"),
        ] {
            assert!(finding.level == Level::Fail && finding.found.contains(found), "{finding:?}");
        }
    }

    #[test]
    fn whoever_may_not_read_the_definition_hears_whether_it_is_served() {
        let list = |kinds: &[&str]| {
            let resource = |kind: &&str| APIResource { kind: (*kind).to_owned(), ..APIResource::default() };
            served(&Ok(APIResourceList { resources: kinds.iter().map(resource).collect(), ..Default::default() }))
        };
        assert_eq!(list(&["Scale", set::KIND]).level, Level::Ok);
        for (finding, found) in [
            (list(&["Scale"]), "drover.dev/v1alpha1 is not served"),
            (served(&Err((Some(404), "page not found".into()))), "drover.dev/v1alpha1 is not served"),
            (served(&Err((Some(503), "no".into()))), "no"),
        ] {
            assert!(finding.level == Level::Fail && finding.found == found && finding.remedy.is_some(), "{finding:?}");
        }
    }
}
