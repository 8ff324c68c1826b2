//! What Argo CD's health script makes of the objects in `tests/kubernetes/argocd`, and of whatever is taken from them.

use serde_json::{Value, json};

use crate::generated;

mod script;

use script::Script;

const DIRECTORY: &str = "tests/kubernetes/argocd";

fn script() -> Script {
    Script::new(&generated::read("charts/drover/files/argocd/health.lua"))
}

fn tests() -> Vec<(String, Value, Value)> {
    let tests: Value =
        serde_saphyr::from_str(&generated::read(&format!("{DIRECTORY}/health_test.yaml"))).expect("YAML");
    let tests = tests["tests"].as_array().expect("a list").iter();
    tests
        .map(|test| {
            let input = test["inputPath"].as_str().expect("a path").to_owned();
            let object = serde_saphyr::from_str(&generated::read(&format!("{DIRECTORY}/{input}"))).expect("YAML");
            (input, object, test["healthStatus"].clone())
        })
        .collect()
}

#[test]
fn each_state_has_its_health() {
    let script = script();
    for (input, object, expected) in tests() {
        let (status, message) = script.judge(&object);
        assert_eq!(json!({ "status": status, "message": message }), expected, "{input}");
    }
}

#[test]
fn every_object_of_the_directory_is_judged() {
    let mut files: Vec<String> = std::fs::read_dir(generated::repository().join(DIRECTORY))
        .expect("the directory")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name != "health_test.yaml")
        .collect();
    files.sort();
    let mut judged: Vec<String> = tests().into_iter().map(|(input, ..)| input).collect();
    judged.sort();
    assert_eq!(files, judged);
}

/// Whatever is taken away or is of another shape, there is an answer, and nothing becomes healthy by what is missing.
#[test]
fn whatever_is_missing_or_misshapen_has_a_health() {
    let script = script();
    for (input, object, expected) in tests() {
        for path in paths(&object, "") {
            for change in [None, Some(json!("x")), Some(json!(7)), Some(json!([])), Some(json!({})), Some(json!(true))]
            {
                let changed = with(&object, &path, change.as_ref());
                let (status, _) = script.judge(&changed);
                assert!(
                    ["Healthy", "Progressing", "Degraded", "Suspended"].contains(&status.as_str()),
                    "{input} {path}"
                );
                let healthy_before = expected["status"] == "Healthy";
                let says_so = ready_is_true(&changed) && changed["status"]["observedGeneration"].is_number();
                assert!(status != "Healthy" || says_so, "{input}: healthy without {path}, which is now {change:?}");
                let about = ["/status", "/status/conditions", "/status/observedGeneration"];
                assert!(
                    !healthy_before || !about.contains(&path.as_str()) || status == "Progressing",
                    "{input}: {status} without {path}, which is now {change:?}"
                );
            }
        }
    }
    let of_no_generation = json!({ "status": { "conditions": [{ "type": "Ready", "status": "True" }] } });
    for nothing in [of_no_generation, json!({}), json!([]), json!("x"), Value::Null] {
        assert_eq!(script.judge(&nothing).0, "Progressing", "{nothing}");
    }
}

fn ready_is_true(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// A pointer to every part of the object below its root.
fn paths(value: &Value, at: &str) -> Vec<String> {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields.iter().map(|(name, child)| (name.clone(), child)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(index, child)| (index.to_string(), child)).collect(),
        _ => Vec::new(),
    };
    let below = children.into_iter().flat_map(|(name, child)| {
        let path = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
        let mut paths = paths(child, &path);
        paths.push(path);
        paths
    });
    below.collect()
}

/// The object with that part replaced, or taken away.
fn with(object: &Value, path: &str, change: Option<&Value>) -> Value {
    let mut object = object.clone();
    let (parent, name) = path.rsplit_once('/').expect("a pointer begins with a slash");
    match (object.pointer_mut(parent).expect("the parent of a part"), change) {
        (Value::Object(fields), None) => drop(fields.remove(name)),
        (Value::Array(items), None) => drop(items.remove(name.parse::<usize>().expect("an index"))),
        (_, None) => unreachable!("only maps and lists have parts"),
        (_, Some(change)) => *object.pointer_mut(path).expect("the part") = change.clone(),
    }
    object
}
