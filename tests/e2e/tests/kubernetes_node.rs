//! A whole cluster of one node: a pod runs, and reaches a machine of a cloud by a Service.

use std::time::Duration;

use anyhow::{Context, ensure};
use drover_e2e::{Clock, Cloud, Cluster, heading, kubernetes_traces, scenario, within};

/// A machine boots; a pod runs.
const SOON: Duration = Duration::from_secs(120);
const PORT: u16 = 3306;

#[test]
fn a_pod_reaches_a_machine_by_a_service() -> anyhow::Result<()> {
    scenario("kubernetes-node", |cloud| {
        let machine = launch(cloud)?;
        let clock = Clock::start();
        let dir = cloud.dir.join("kubernetes");
        let cluster = Cluster::up(&dir)?;
        eprintln!("a cluster was up after {:.1} s", clock.elapsed().as_secs_f64());

        heading("a server on a machine is reached through a Service without selector and its EndpointSlice");
        let seen = cluster.join(cloud)?;
        let serve = format!("while :; do echo \"hello from $(hostname)\" | nc -v -N -l {PORT}; done");
        let _server = cloud.begin_inside(&machine.id, &["sh", "-c", &serve])?;
        let admin = &cluster.plane.admin;
        admin.apply(&service(&machine.address))?;
        let service = admin.get_json(&["service", "shop-primary"])?;
        let address = service["spec"]["clusterIP"].as_str().context("a Service has an address")?;
        let image = cluster.import_program("reach")?;
        let clock = Clock::start();
        let said = answer(&cluster, "reach", &image, &[address, &PORT.to_string()])?;
        eprintln!("a pod had run after {:.1} s", clock.elapsed().as_secs_f64());
        let hostname = cloud.inside(&machine.id, &["hostname"])?;
        ensure!(said.trim() == format!("hello from {}", hostname.trim()), "{said:?}; the node is {seen} to machines");

        heading("the cloud's endpoints are reached from a pod");
        let (host, port) = cloud.endpoints.s3.trim_start_matches("http://").split_once(':').context("an endpoint")?;
        let said = answer(&cluster, "ask", &image, &[host, port, "GET / HTTP/1.0\r\n\r\n"])?;
        ensure!(said.starts_with("HTTP/1."), "{said:?}");

        heading("so is the API server, by its own Service");
        let own = admin.get_json(&["service", "kubernetes"])?;
        let address = own["spec"]["clusterIP"].as_str().context("a Service has an address")?;
        let said = answer(&cluster, "knock", &image, &[address, "443", "GET / HTTP/1.0\r\n\r\n"])?;
        ensure!(said.contains("HTTP request to an HTTPS server"), "{said:?}");

        heading(
            "of one whose test was killed the kernel leaves cgroups and files, and the next one in its place begins without them",
        );
        cluster.crash()?;
        let left = kubernetes_traces(&dir)?;
        assert_eq!(left.keys().copied().collect::<Vec<_>>(), ["cgroup", "directory"], "{left:#?}");
        let cluster = Cluster::up(&dir)?;
        ensure!(cluster.plane.admin.get_json(&["pods"])?["items"].as_array().is_some_and(Vec::is_empty));

        heading("nothing of it is left when it ends");
        let clock = Clock::start();
        drop(cluster);
        eprintln!("it was gone after {:.1} s", clock.elapsed().as_secs_f64());
        let left = kubernetes_traces(&dir)?;
        assert_eq!(left.keys().copied().collect::<Vec<_>>(), ["directory"], "{left:#?}");
        Ok(())
    })
}

struct Machine {
    id: String,
    address: String,
}

fn launch(cloud: &Cloud) -> anyhow::Result<Machine> {
    let told = cloud.run_stranger("#!/bin/sh\n")?;
    let machine = Machine { id: told.text("instanceId"), address: told.text("privateIpAddress") };
    within(SOON, "the machine runs", || cloud.inside(&machine.id, &["true"]).map(Some))?;
    Ok(machine)
}

fn service(address: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: shop-primary}}\nspec: {{ports: [{{port: {PORT}}}]}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: shop-primary-1, labels: {{kubernetes.io/service-name: shop-primary}}}}\n\
         addressType: IPv4\nports: [{{port: {PORT}}}]\nendpoints: [{{addresses: [{address}], conditions: {{ready: true}}}}]\n"
    )
}

/// What a pod that runs to its end has said.
fn answer(cluster: &Cluster, name: &str, image: &str, words: &[&str]) -> anyhow::Result<String> {
    let admin = &cluster.plane.admin;
    let image = format!("--image={image}");
    let run = ["run", name, &image, "--image-pull-policy=Never", "--restart=Never", "--"];
    admin.kubectl(&[run.as_slice(), words].concat())?;
    let pod = format!("pod/{name}");
    let ended = admin.kubectl(&["wait", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s", &pod]);
    ended.or_else(|error| {
        let told = admin.kubectl(&["describe", &pod])?;
        let said = admin.ask_kubectl(&["logs", name], "")?;
        Err(error.context(format!("{told}\n{said:?}")))
    })?;
    admin.kubectl(&["logs", name])
}
