//! A whole Kubernetes of one node: pods run, and Services lead somewhere.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use serde_json::{Value, json};

use super::{
    ControlPlane, cgroup, cgroups,
    image::{image_of_program, reference},
    network::{self, Cable},
    node::{HOME, Node},
    plane,
    running::Running,
    tools,
};
use crate::{Cloud, host, pace::within};

/// A cluster that lives beside the test. Dropped, it ends as by a power cut; its directory stays with the scenario's.
#[derive(Debug)]
pub struct Cluster {
    pub plane: ControlPlane,
    node: Option<Node>,
    /// Everything that runs, in the node or for it.
    running: Vec<Running>,
    dir: PathBuf,
    tag: String,
}

/// The node's name in Kubernetes.
const NODE: &str = "node-1";
/// Addresses of pods. They are masked on their way out of the node, so that any cluster may have the same.
const PODS: &str = "10.244.0.0/24";
const SOCKET: &str = "/run/containerd/containerd.sock";
const PLUGINS: &str = "/usr/lib/cni";
/// Measured on two cores: 12 s from the first process.
const READY: Duration = Duration::from_secs(120);
const COMMAND: Duration = Duration::from_secs(60);

impl Cluster {
    /// Starts one in a directory of its own, after what an earlier one left in the kernel for that directory is removed.
    pub fn up(dir: &Path) -> anyhow::Result<Self> {
        let (tools, tag) = (tools::of_cluster()?, host::tag(dir)?);
        cgroups::remove(&cgroup(&tag))?;
        plane::empty(dir)?;
        let dir = dir.canonicalize()?;
        fs::create_dir_all(dir.join(HOME))?;
        cgroups::make(&cgroup(&tag))?;
        let cable = Cable::choose(&tag)?;
        let node = Node::up(&dir, &tag, &tools, cable)?;
        node.rules(&masking())?;
        fs::create_dir_all(dir.join(HOME).join("networks"))?;
        written(&dir.join(HOME).join("networks"), "pods.conflist", &pods_network(&dir).to_string())?;
        let config = written(&dir, "containerd.toml", &containers(&dir, &tools))?;
        let containers = node.start("containerd", &["--config", &config])?;
        let plane = ControlPlane::up_at(&dir, cable.host, tools)?;
        let mut cluster = Self { plane, node: Some(node), running: vec![containers], dir, tag };
        let pause = image_of_program(&cluster.dir, "pause")?;
        cluster.import(&pause)?;
        cluster.start_node(cable)?;
        let kubectl = &cluster.plane.admin;
        within(READY, "the node is ready", || {
            cluster.running.iter_mut().try_for_each(Running::must_run)?;
            let answer = kubectl.get_json(&["node", NODE])?;
            let conditions = answer["status"]["conditions"].as_array().into_iter().flatten();
            let ready = conditions.into_iter().find(|condition| condition["type"] == "Ready");
            Ok(ready.is_some_and(|ready| ready["status"] == "True").then_some(()))
        })?;
        Ok(cluster)
    }

    /// Takes the images of an OCI archive to the node. Pods use them with `imagePullPolicy: Never`.
    pub fn import(&self, archive: &Path) -> anyhow::Result<()> {
        // The node sees no other directory of the host's /var/lib than its own.
        let copy = self.dir.join("import.tar");
        fs::copy(archive, &copy).with_context(|| format!("cannot copy {}", archive.display()))?;
        let (ctr, file) = (self.plane.place.tools.join("ctr").display().to_string(), copy.display().to_string());
        let import = [ctr.as_str(), "--address", SOCKET, "--namespace", "k8s.io", "images", "import", &file];
        let taken = within(COMMAND, "containerd takes the image", || self.node()?.inside(&import).map(Some));
        fs::remove_file(copy)?;
        taken.map(drop)
    }

    /// Compiles `tests/kubernetes/images/<name>.c`, and takes it to the node. Answers the image's name.
    pub fn import_program(&self, name: &str) -> anyhow::Result<String> {
        self.import(&image_of_program(&self.dir, name)?)?;
        Ok(reference(name))
    }

    /// Lets pods reach the machines of a cloud, and its endpoints, as another machine of its network. Answers the address that the
    /// machines see.
    pub fn join(&self, cloud: &Cloud) -> anyhow::Result<Ipv4Addr> {
        let endpoint = cloud.endpoints.ec2.trim_start_matches("http://");
        let gateway = endpoint.split(':').next().unwrap_or_default();
        let gateway = gateway.parse().with_context(|| format!("{endpoint} is no address of a network"))?;
        self.node()?.plug(&self.tag, &format!("drover-{}", host::tag_of_cloud(&cloud.dir)?), gateway)
    }

    /// Errors: something of it has ended by itself.
    pub fn must_run(&mut self) -> anyhow::Result<()> {
        self.plane.must_run()?;
        self.running.iter_mut().try_for_each(Running::must_run)
    }

    /// Ends as when the test is killed: what the kernel does not end by itself is left.
    pub fn crash(mut self) -> anyhow::Result<()> {
        self.node.take().map_or(Ok(()), Node::crash)
    }

    /// Everything that runs on and for the node, once containerd does.
    fn start_node(&mut self, cable: Cable) -> anyhow::Result<()> {
        let plane = &self.plane;
        let text = |path: PathBuf| path.display().to_string();
        let scheduler = text(plane.component("scheduler", "system:kube-scheduler", &[])?);
        let flags = [
            ("kubeconfig", scheduler.clone()),
            ("authentication-kubeconfig", scheduler.clone()),
            ("authorization-kubeconfig", scheduler),
            ("leader-elect", "false".into()),
            ("secure-port", "0".into()),
        ];
        let scheduler = plane.start("kube-scheduler", &flags)?;
        let user = text(plane.component("kubelet", &format!("system:node:{NODE}"), &["system:nodes"])?);
        let served = plane.authority.server("kubelet-server", &[&cable.node.to_string(), NODE])?;
        let config = kubelet(&plane.place.authority, &text(served.certificate), &text(served.key), &cgroup(&self.tag));
        let config = written(&self.dir, "kubelet.yaml", &config.to_string())?;
        let address = cable.node.to_string();
        let node = self.node()?;
        let flags = ["--config", &config, "--kubeconfig", &user, "--hostname-override", NODE, "--node-ip", &address];
        let kubelet = node.start("kubelet", &flags)?;
        let user = text(plane.component("proxy", "system:kube-proxy", &[])?);
        let config = written(&self.dir, "proxy.yaml", &proxy(&user).to_string())?;
        let proxy = node.start("kube-proxy", &["--config", &config])?;
        self.running.extend([scheduler, kubelet, proxy]);
        Ok(())
    }

    fn node(&self) -> anyhow::Result<&Node> {
        self.node.as_ref().context("the node runs until the cluster is dropped")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Killed with its first process are all the others, theirs in pods too.
        let Some(node) = self.node.take() else { return };
        drop(node);
        self.running.clear();
        if let Err(error) = remove_what_is_left(&self.tag) {
            eprintln!("{} is not swept: {error:#}", self.dir.display());
        }
    }
}

/// Waits until everything in a node has ended, which takes its cable away, and removes what the kernel leaves of it.
pub(super) fn remove_what_is_left(tag: &str) -> anyhow::Result<()> {
    let link = Path::new("/sys/class/net").join(network::link(tag));
    within(COMMAND, "the cable is gone", || Ok((!link.exists()).then_some(())))?;
    cgroups::remove(&cgroup(tag))
}

fn written(dir: &Path, file: &str, text: &str) -> anyhow::Result<String> {
    let path = dir.join(file);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path.display().to_string())
}

/// Whoever is outside answers the node: it knows nothing of pods.
fn masking() -> String {
    format!(
        "table ip drover {{\n  chain masking {{\n    type nat hook postrouting priority srcnat;\n    ip saddr {PODS} oifname {{ \
         \"eth0\", \"cloud\" }} masquerade\n  }}\n}}\n"
    )
}

/// Each pod has a link to the node of its own, so that all that it sends is routed, and passes kube-proxy's rules, to other pods too.
fn pods_network(dir: &Path) -> Value {
    let addresses = json!({
        "type": "host-local",
        "dataDir": dir.join(HOME).join("addresses"),
        "ranges": [[{ "subnet": PODS }]],
        "routes": [{ "dst": "0.0.0.0/0" }],
    });
    json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [{ "type": "ptp", "ipMasq": false, "ipam": addresses }],
    })
}

fn containers(dir: &Path, tools: &Path) -> String {
    format!(
        r#"version = 3
[plugins.'io.containerd.internal.v1.opt']
path = "/var/lib/containerd-opt"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "{pause}"
[plugins.'io.containerd.cri.v1.runtime']
# Inside a virtual machine's jail nobody may lower it.
restrict_oom_score_adj = true
# A profile would stay in the host's kernel.
disable_apparmor = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["{PLUGINS}"]
conf_dir = "{networks}"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
BinaryName = "{runc}"
SystemdCgroup = false
"#,
        pause = reference("pause"),
        networks = dir.join(HOME).join("networks").display(),
        runc = tools.join("runc").display(),
    )
}

fn kubelet(authority: &Path, certificate: &str, key: &str, cgroup: &str) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": format!("unix://{SOCKET}"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{cgroup}"),
        "failCgroupV1": false,
        "failSwapOn": false,
        "enforceNodeAllocatable": [],
        // However full the host's disk is.
        "evictionHard": { "imagefs.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%" },
        "imageGCHighThresholdPercent": 100,
        "authentication": {
            "anonymous": { "enabled": false }, "webhook": { "enabled": true }, "x509": { "clientCAFile": authority },
        },
        "authorization": { "mode": "Webhook" },
        "tlsCertFile": certificate,
        "tlsPrivateKeyFile": key,
        "healthzPort": 0,
        "volumePluginDir": "/var/lib/kubelet/plugins-of-volumes",
        "resolvConf": "",
        "clusterDomain": "cluster.local",
        // Nobody answers there: a name that is looked up is not found at once.
        "clusterDNS": ["10.96.0.10"],
    })
}

fn proxy(kubeconfig: &str) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": { "kubeconfig": kubeconfig },
        "clusterCIDR": PODS,
        "hostnameOverride": NODE,
        // The kernel's own limit is not a namespace's to set.
        "conntrack": { "maxPerCore": 0 },
    })
}
