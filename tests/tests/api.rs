//! `/api/v1` is what its OpenAPI document says: every operation, every answer, nothing beside them.

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};
use reqwest::{Client, Method, StatusCode, redirect};
use serde_json::{Value, json};
use tests::event_stream::{EventStream, Item};
use tests::installation::Installation;
use tests::program::{self, Program, until};
use tests::source::{Shape, Source};

type Result = anyhow::Result<()>;

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];
/// What any operation may answer that comes too often, from nobody, or with a broken body.
const GENERAL: [&str; 6] = ["400", "401", "403", "415", "429", "503"];

/// With it a test is one more user of the store.
const CLUSTER_KEY: &str = "the-cluster-key-of-this-test";

/// The document, and what was seen of it.
struct Described {
    document: Value,
    seen: BTreeSet<(String, String, String)>,
    client: Client,
}

impl Described {
    async fn fetch(controller: &Program) -> anyhow::Result<Self> {
        let client = Client::builder().redirect(redirect::Policy::none()).build()?;
        let answer = client.get(controller.url("/api/v1/openapi.json")).send().await?;
        ensure!(answer.headers()["content-type"] == "application/json");
        let mut document: Value = answer.json().await?;
        ensure!(document["openapi"] == "3.1.0");
        // What is not described must not be there.
        let schemas = document["components"]["schemas"].as_object_mut().context("schemas")?;
        for schema in schemas.values_mut().filter(|schema| schema.get("properties").is_some()) {
            schema["additionalProperties"] = json!(false);
        }
        Ok(Self { document, seen: BTreeSet::new(), client })
    }

    fn operations(&self) -> Vec<(String, String, Vec<String>)> {
        let paths = self.document["paths"].as_object().into_iter().flatten();
        let operations = paths.flat_map(|(path, item)| {
            METHODS.into_iter().filter_map(move |method| {
                let codes = item.get(method)?["responses"].as_object()?.keys().cloned().collect();
                Some((path.clone(), method.to_owned(), codes))
            })
        });
        operations.collect()
    }

    /// Whether `value` is as the schema says.
    fn check(&self, schema: &Value, value: &Value) -> Result {
        let mut whole = schema.clone();
        whole["components"] = self.document["components"].clone();
        let validator = jsonschema::validator_for(&whole)?;
        let faults: Vec<String> =
            validator.iter_errors(value).map(|fault| format!("{}: {fault}", fault.instance_path())).collect();
        ensure!(faults.is_empty(), "{faults:#?} in {value:#}");
        Ok(())
    }

    /// Calls an operation of the document at `path`; its answer has to be one that is described.
    async fn call(
        &mut self,
        controller: &Program,
        (method, template, path): (&str, &str, &str),
        body: Option<&Value>,
        expected: u16,
    ) -> anyhow::Result<Value> {
        let mut request = self.client.request(method.to_uppercase().parse()?, controller.url(path));
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await?;
        let what = format!("{method} {path}: {}", answer.status());
        ensure!(answer.status() == expected, "{what} instead of {expected}");
        let code = answer.status().as_str().to_owned();
        let described = &self.document["paths"][template][method]["responses"][&code];
        ensure!(described.is_object(), "{what} is not described");
        self.seen.insert((template.to_owned(), method.to_owned(), code));
        let Some(content) = described["content"].as_object().cloned() else {
            ensure!(answer.bytes().await?.is_empty(), "{what} has a body that is not described");
            return Ok(Value::Null);
        };
        let kind = answer.headers()["content-type"].to_str()?.to_owned();
        let schema = content.get(&kind).with_context(|| format!("{what} is {kind}"))?["schema"].clone();
        let value = answer.json().await?;
        self.check(&schema, &value).with_context(|| what)?;
        Ok(value)
    }
}

/// Every operation on broadcasts and their keys.
async fn broadcasts(api: &mut Described, c: &Program) -> Result {
    const BROADCASTS: &str = "/api/v1/broadcasts";
    const BROADCAST: &str = "/api/v1/broadcasts/{broadcast}";
    const KEY: &str = "/api/v1/broadcasts/{broadcast}/publish-key";
    let (at, key_at) = ("/api/v1/broadcasts/gala", "/api/v1/broadcasts/gala/publish-key");
    let (nothing, no_key) = ("/api/v1/broadcasts/nothing", "/api/v1/broadcasts/nothing/publish-key");
    let gala = json!({"id": "gala", "tree": "main", "publish_key": "chosen-by-the-operator"});
    let made = api.call(c, ("post", BROADCASTS, BROADCASTS), Some(&gala), 201).await?;
    ensure!(made["publish_key"] == "chosen-by-the-operator");
    api.call(c, ("post", BROADCASTS, BROADCASTS), Some(&gala), 409).await?;
    for bad in [
        json!({"id": "No Name"}),
        json!({"id": "good", "tree": "of-nobody"}),
        json!({"id": "good", "publish_key": "short"}),
    ] {
        api.call(c, ("post", BROADCASTS, BROADCASTS), Some(&bad), 422).await?;
    }
    until("the broadcast is shown", async || Ok(reqwest::get(c.url(at)).await?.status() == 200)).await?;
    let shown = api.call(c, ("get", BROADCAST, at), None, 200).await?;
    ensure!(shown["state"] == "waiting" && shown["created"].is_u64(), "{shown}");
    api.call(c, ("get", BROADCAST, nothing), None, 404).await?;
    ensure!(api.call(c, ("get", KEY, key_at), None, 200).await? == made);
    api.call(c, ("get", KEY, no_key), None, 404).await?;
    ensure!(api.call(c, ("post", KEY, key_at), Some(&json!({})), 200).await? != made);
    api.call(c, ("post", KEY, key_at), Some(&json!({"publish_key": "short"})), 422).await?;
    api.call(c, ("post", KEY, no_key), Some(&json!({})), 404).await?;
    api.call(c, ("delete", BROADCAST, at), None, 204).await?;
    api.call(c, ("delete", BROADCAST, nothing), None, 404).await?;
    // One that is merely published is not an operator's to delete.
    api.call(c, ("delete", BROADCAST, "/api/v1/broadcasts/show"), None, 404).await?;
    Ok(())
}

/// Every operation on slots. Where trees do not grow by themselves nobody touches a slot that a test writes.
async fn slots(api: &mut Described, c: &Program) -> Result {
    const APPROVAL: &str = "/api/v1/approvals/{tree}/{slot}";
    let access_key = Some(store::AccessKey::new(CLUSTER_KEY.as_bytes()));
    let store = store::open(&c.url(""), &store::Options { access_key, allows_plain_http: false })?;
    let slot: registry::SlotEntry = serde_json::from_value(json!({
        "number": 4, "state": "warm", "since": 1, "place": "process.here", "failures": 0, "drain": 0,
        "nodes": [{"node": "relay-1", "role": "relay"}],
        "proposal": {"change": "grow", "is_approved": false, "reason": "many come"},
    }))?;
    let record = registry::SlotsRecord { tree: model::TreeId::new("main")?, term: 0, slots: vec![slot] };
    registry::Registry::new(store).put(&record, store::Write::any()).await?;
    let approvals = c.url("/api/v1/approvals");
    until("the approval is asked for", async || {
        Ok(reqwest::get(&approvals).await?.json::<Value>().await?[0]["slot"] == 4)
    })
    .await?;
    for path in ["/api/v1/slots", "/api/v1/approvals"] {
        let list = api.call(c, ("get", path, path), None, 200).await?;
        ensure!(list.as_array().is_some_and(|list| list.len() == 1), "{list}");
    }
    let (grow, shrink) = (json!({"change": "grow"}), json!({"change": "shrink"}));
    let at = "/api/v1/approvals/main/4";
    api.call(c, ("post", APPROVAL, at), Some(&shrink), 404).await?;
    api.call(c, ("post", APPROVAL, "/api/v1/approvals/main/four"), Some(&grow), 404).await?;
    api.call(c, ("post", APPROVAL, at), Some(&grow), 202).await?;
    until("it is allowed", async || {
        Ok(reqwest::get(&approvals).await?.json::<Value>().await?[0]["is_approved"] == true)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_openapi_document_holds() -> Result {
    let cluster_key = ["--cluster-key", CLUSTER_KEY];
    let controller = program::node("controller").with(&cluster_key).start().await?;
    let installation = Installation::of(&controller);
    let injection = installation.node("injection", "in").with(&cluster_key).start().await?;
    let _egress = installation.node("egress", "out").with(&cluster_key).start().await?;
    let _source = Source::publish(&injection.url("/whip/show"), Shape::TINY).await?;
    let client = Client::new();
    // All there is to say about is there.
    until("everything is known", async || {
        let view: Value = client.get(controller.url("/api/v1/installation")).send().await?.json().await?;
        let filled = |name: &str| view[name].as_array().is_some_and(|list| !list.is_empty());
        let nodes = view["nodes"].as_array().map_or(0, Vec::len);
        let has_parents = |node: &Value| node["parents"].as_array().is_some_and(|list| !list.is_empty());
        let is_linked = view["nodes"].as_array().is_some_and(|nodes| nodes.iter().any(has_parents));
        Ok(nodes >= 3 && is_linked && filled("broadcasts") && filled("decisions"))
    })
    .await?;

    let mut api = Described::fetch(&controller).await?;
    let c = &controller;
    let plain =
        ["openapi.json", "installation", "broadcasts", "trees", "nodes", "viewers", "decisions", "targets"];
    for path in plain.map(|name| format!("/api/v1/{name}")) {
        let value = api.call(c, ("get", &path, &path), None, 200).await?;
        ensure!(value.as_array().is_none_or(|list| !list.is_empty() || path.ends_with("trees")), "{path}");
    }
    let mut stream = EventStream::open(&controller.url("/api/v1/events")).await?;
    let Item::Event(kind, data) = stream.next().await? else { anyhow::bail!("the stream has ended") };
    ensure!(kind == "installation");
    api.check(&json!({"$ref": "#/components/schemas/Installation"}), &data)?;
    api.seen.insert(("/api/v1/events".into(), "get".into(), "200".into()));

    const TREES: &str = "/api/v1/trees";
    const TREE: &str = "/api/v1/trees/{tree}";
    let friday = json!({"id": "friday", "template": "minimal"});
    let made = api.call(c, ("post", TREES, TREES), Some(&friday), 201).await?;
    ensure!(made["id"] == "friday");
    api.call(c, ("post", TREES, TREES), Some(&friday), 409).await?;
    api.call(c, ("post", TREES, TREES), Some(&json!({"id": "No Name"})), 422).await?;
    api.call(c, ("get", TREE, "/api/v1/trees/nothing"), None, 404).await?;
    api.call(c, ("delete", TREE, "/api/v1/trees/nothing"), None, 404).await?;
    until("the tree is shown", async || {
        Ok(client.get(controller.url("/api/v1/trees/friday")).send().await?.status() == 200)
    })
    .await?;
    api.call(c, ("get", TREE, "/api/v1/trees/friday"), None, 200).await?;
    api.call(c, ("delete", TREE, "/api/v1/trees/main"), None, 409).await?;
    api.call(c, ("delete", TREE, "/api/v1/trees/friday"), None, 204).await?;

    broadcasts(&mut api, c).await?;
    slots(&mut api, c).await?;

    const NODE: &str = "/api/v1/nodes/{node}";
    const DRAIN: &str = "/api/v1/nodes/{node}/drain";
    const UNDRAIN: &str = "/api/v1/nodes/{node}/undrain";
    let soon = json!({"deadline_secs": 3});
    api.call(c, ("get", NODE, "/api/v1/nodes/out"), None, 200).await?;
    api.call(c, ("get", NODE, "/api/v1/nodes/nothing"), None, 404).await?;
    api.call(c, ("post", DRAIN, "/api/v1/nodes/out/drain"), Some(&soon), 202).await?;
    api.call(c, ("post", DRAIN, "/api/v1/nodes/nothing/drain"), Some(&soon), 404).await?;
    api.call(c, ("post", DRAIN, "/api/v1/nodes/out/drain"), Some(&json!({"deadline_secs": 86_401})), 422)
        .await?;
    api.call(c, ("post", UNDRAIN, "/api/v1/nodes/out/undrain"), None, 202).await?;
    api.call(c, ("post", UNDRAIN, "/api/v1/nodes/nothing/undrain"), None, 404).await?;

    for (path, method, codes) in api.operations() {
        for code in codes.into_iter().filter(|code| !GENERAL.contains(&code.as_str())) {
            let operation = (path.clone(), method.clone(), code);
            ensure!(api.seen.contains(&operation), "{operation:?} is described and was not seen");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_described_is_not_there() -> Result {
    let controller = program::node("controller").start().await?;
    let api = Described::fetch(&controller).await?;
    let operations = api.operations();
    let paths: BTreeSet<&String> = operations.iter().map(|(path, ..)| path).collect();
    for path in paths {
        let concrete = path.replace("{tree}", "nothing").replace("{node}", "nothing");
        let concrete = concrete.replace("{broadcast}", "nothing").replace("{slot}", "0");
        let is_described =
            |method: &str| operations.iter().any(|(at, known, _)| at == path && known == method);
        for method in METHODS.into_iter().filter(|method| !is_described(method)) {
            let wanted: Method = method.to_uppercase().parse()?;
            let answer = api.client.request(wanted, controller.url(&concrete)).send().await?;
            ensure!(
                answer.status() == StatusCode::METHOD_NOT_ALLOWED,
                "{method} {path}: {}",
                answer.status()
            );
        }
    }
    for path in ["/api/v1/nothing", "/api/v1/trees/a/b", "/api/v1/trees/../../etc", "/api", "/nothing"] {
        let answer = api.client.get(controller.url(path)).send().await?;
        ensure!(answer.status() == StatusCode::NOT_FOUND, "{path}: {}", answer.status());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_operate_is_told_so_in_the_described_way() -> Result {
    let controller =
        program::node("controller").with(&["--operator-tokens", "operator-secret"]).start().await?;
    let client = Client::new();
    for (token, origin, expected) in [
        (None, None, 401),
        (Some("wrong"), None, 401),
        (Some("operator-secret"), Some("http://elsewhere.example"), 403),
        (Some("operator-secret"), None, 200),
    ] {
        let mut request = client.get(controller.url("/api/v1/nodes"));
        request = token.into_iter().fold(request, |request, token| request.bearer_auth(token));
        request = origin.into_iter().fold(request, |request, origin| request.header("Origin", origin));
        let answer = request.send().await?;
        ensure!(answer.status() == expected, "{token:?} {origin:?}: {}", answer.status());
        if expected != 200 {
            ensure!(answer.headers()["content-type"] == "application/problem+json");
            let problem: Value = answer.json().await?;
            ensure!(problem["status"] == expected && problem["detail"].is_string(), "{problem}");
        }
    }
    // Nobody learns by it which routes there are.
    ensure!(client.get(controller.url("/api/v1/nothing")).send().await?.status() == 404);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_without_a_cluster_key_is_for_nodes_on_its_machine() -> Result {
    let node = program::node("up").start().await?;
    let client = reqwest::Client::new();
    let ask = |header: Option<(&'static str, &'static str)>| {
        let request = client.get(node.url("/api/v1/store/nodes"));
        let request = header.into_iter().fold(request, |request, (name, value)| request.header(name, value));
        async move { anyhow::Ok(request.send().await?.status().as_u16()) }
    };
    assert_ne!(ask(None).await?, 403, "from here it is a question of the key");
    for header in
        [("X-Forwarded-Proto", "https"), ("Host", "rebound.example"), ("Origin", "https://other.example")]
    {
        assert_eq!(ask(Some(header)).await?, 403, "{header:?}");
    }
    Ok(())
}
