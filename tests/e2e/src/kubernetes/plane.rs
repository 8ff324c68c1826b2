//! etcd, an API server and a controller manager: real admission, RBAC, CEL, namespaces that end and tokens that count.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Context;

use super::{
    access::{Access, Place, Proof},
    audit::{self, AuditEntry},
    authority::{Authority, Pair},
    running::Running,
    tools,
};
use crate::{host, pace::within};

/// A control plane that lives beside the test. Dropped, it ends; its directory stays with the scenario's.
#[derive(Debug)]
pub struct ControlPlane {
    /// A member of `system:masters`: nothing is refused.
    pub admin: Access,
    controllers: Option<Running>,
    api: Option<Running>,
    etcd: Option<Running>,
    dir: PathBuf,
    address: Ipv4Addr,
    ports: Ports,
    pub(super) place: Place,
    pub(super) authority: Authority,
    served: Pair,
    tokens: Pair,
}

/// Of the programs; the same as long as it lives.
#[derive(Clone, Copy, Debug)]
struct Ports {
    etcd: u16,
    peers: u16,
    api: u16,
}

/// The first start on a busy machine of two cores; it takes 6 s alone.
const UP: Duration = Duration::from_secs(120);
/// What a Service's address is taken from. It is routed inside a node only, so that any cluster may have the same.
const SERVICES: &str = "10.96.0.0/16";
/// Below its directory: certificates, by which an earlier one is known.
const PKI: &str = "pki";
/// The API server's own Service: the first of them.
const API_SERVICE: &str = "10.96.0.1";

impl ControlPlane {
    /// Starts one in a directory of its own, on a loopback address that is made of the directory's name. What an earlier one left
    /// there is removed.
    pub fn up(dir: &Path) -> anyhow::Result<Self> {
        empty(dir)?;
        let tag = u32::from_str_radix(&host::tag(dir)?, 16)?;
        let [a, b, c, _] = tag.to_be_bytes();
        Self::up_at(dir, Ipv4Addr::new(127, 64 + a % 64, b, c.clamp(1, 254)), tools::of_control_plane()?)
    }

    /// Starts one at an address of this host that nodes and pods reach too.
    pub(super) fn up_at(dir: &Path, address: Ipv4Addr, tools: PathBuf) -> anyhow::Result<Self> {
        let ports = Ports::free(address)?;
        let authority = Authority::make(&dir.join(PKI))?;
        let host = address.to_string();
        let names = [&host, API_SERVICE, "kubernetes.default.svc", "kubernetes.default", "localhost"];
        let served = authority.server("kube-apiserver", &names)?;
        let url = format!("https://{address}:{}", ports.api);
        let place = Place { url, authority: authority.certificate(), tools };
        let admin = authority.user("admin", "admin", &["system:masters"])?;
        let admin = Access::write(&place, dir, "admin", &Proof::Certificate(&admin))?;
        let tokens = authority.tokens()?;
        fs::write(dir.join("audit.yaml"), audit::POLICY)?;
        let (controllers, api, etcd, dir) = (None, None, None, dir.to_owned());
        let mut plane = Self { admin, controllers, api, etcd, dir, address, ports, place, authority, served, tokens };
        plane.component("controllers", "system:kube-controller-manager", &[])?;
        plane.start_etcd()?;
        plane.start_api_server()?;
        plane.start_controllers()?;
        Ok(plane)
    }

    /// Where clients find the API server.
    pub fn url(&self) -> &str {
        &self.place.url
    }

    /// A way in as that service account, by a token that the API server gives for an hour.
    pub fn service_account(&self, namespace: &str, name: &str) -> anyhow::Result<Access> {
        let token = self.admin.kubectl(&["create", "token", name, "--namespace", namespace, "--duration=1h"])?;
        Access::write(&self.place, &self.dir, &format!("{namespace}.{name}"), &Proof::Token(token.trim()))
    }

    /// Errors: something of it has ended by itself.
    pub(super) fn must_run(&mut self) -> anyhow::Result<()> {
        [&mut self.etcd, &mut self.api, &mut self.controllers].into_iter().flatten().try_for_each(Running::must_run)
    }

    /// Its programs, and their processes.
    pub fn processes(&self) -> Vec<(&'static str, u32)> {
        let all = [("etcd", &self.etcd), ("kube-apiserver", &self.api), ("kube-controller-manager", &self.controllers)];
        all.into_iter().filter_map(|(name, running)| Some((name, running.as_ref()?.id()))).collect()
    }

    /// Every request so far, in the order of their arrival.
    pub fn audit(&self) -> anyhow::Result<Vec<AuditEntry>> {
        audit::read(&self.audit_log())
    }

    /// The API server ends as by kill -9. Whoever asks is refused a connection.
    pub fn stop_api_server(&mut self) {
        self.api = None;
    }

    /// The same data at the same address, ready.
    pub fn start_api_server(&mut self) -> anyhow::Result<()> {
        let text = |path: &Path| path.display().to_string();
        let (address, port) = (self.address.to_string(), self.ports.api.to_string());
        let mut flags = vec![
            ("etcd-servers", self.etcd_url()),
            ("bind-address", address.clone()),
            ("advertise-address", address),
            ("secure-port", port),
            ("tls-cert-file", text(&self.served.certificate)),
            ("tls-private-key-file", text(&self.served.key)),
            ("client-ca-file", text(&self.place.authority)),
            ("service-account-issuer", "https://kubernetes.default.svc".into()),
            ("service-account-key-file", text(&self.tokens.certificate)),
            ("service-account-signing-key-file", text(&self.tokens.key)),
            ("service-cluster-ip-range", SERVICES.into()),
            ("authorization-mode", "Node,RBAC".into()),
            ("allow-privileged", "true".into()),
            ("audit-policy-file", text(&self.dir.join("audit.yaml"))),
            ("audit-log-path", text(&self.audit_log())),
            // For logs of pods and commands in them.
            ("kubelet-client-certificate", text(&self.dir.join(PKI).join("admin.crt"))),
            ("kubelet-client-key", text(&self.dir.join(PKI).join("admin.key"))),
            ("kubelet-certificate-authority", text(&self.place.authority)),
            ("kubelet-preferred-address-types", "InternalIP".into()),
        ];
        if self.address.is_loopback() {
            // No pod reaches it: there is nothing that the Service `kubernetes` could lead to.
            flags.push(("endpoint-reconciler-type", "none".into()));
        }
        self.api = Some(self.start("kube-apiserver", &flags)?);
        let (admin, api) = (&self.admin, &mut self.api);
        within(UP, "the API server is ready", || {
            api.iter_mut().try_for_each(Running::must_run)?;
            Ok(admin.kubectl(&["get", "--raw", "/readyz"]).is_ok().then_some(()))
        })
    }

    /// All that the API server knows is gone, as after the loss of etcd's disk: another one, at the same address, trusts the same users.
    pub fn lose_everything(&mut self) -> anyhow::Result<()> {
        (self.controllers, self.api, self.etcd) = (None, None, None);
        fs::remove_dir_all(self.dir.join("etcd"))?;
        self.start_etcd()?;
        self.start_api_server()?;
        self.start_controllers()
    }

    /// A part of Kubernetes with a certificate and a kubeconfig of its own, which is answered.
    pub(super) fn component(&self, file: &str, user: &str, groups: &[&str]) -> anyhow::Result<PathBuf> {
        let pair = self.authority.user(file, user, groups)?;
        Ok(Access::write(&self.place, &self.dir, file, &Proof::Certificate(&pair))?.kubeconfig)
    }

    /// Starts one of the programs on this host with these flags.
    pub(super) fn start(&self, program: &str, flags: &[(&str, String)]) -> anyhow::Result<Running> {
        let mut command = Command::new(self.place.tools.join(program));
        command.args(flags.iter().map(|(name, value)| format!("--{name}={value}")));
        Running::start(&mut command, self.dir.join(format!("{program}.log")))
    }

    fn start_etcd(&mut self) -> anyhow::Result<()> {
        let peers = format!("http://{}:{}", self.address, self.ports.peers);
        let flags = [
            ("data-dir", self.dir.join("etcd").display().to_string()),
            ("listen-client-urls", self.etcd_url()),
            ("advertise-client-urls", self.etcd_url()),
            ("listen-peer-urls", peers.clone()),
            ("initial-advertise-peer-urls", peers.clone()),
            ("initial-cluster", format!("default={peers}")),
            // What a power cut would lose is nobody's.
            ("unsafe-no-fsync", "true".into()),
            ("log-level", "warn".into()),
        ];
        self.etcd = Some(self.start("etcd", &flags)?);
        Ok(())
    }

    /// Ready when it has made the first service account.
    fn start_controllers(&mut self) -> anyhow::Result<()> {
        let text = |path: PathBuf| path.display().to_string();
        let kubeconfig = text(self.dir.join("controllers.kubeconfig"));
        let flags = [
            ("kubeconfig", kubeconfig.clone()),
            ("authentication-kubeconfig", kubeconfig.clone()),
            ("authorization-kubeconfig", kubeconfig),
            ("root-ca-file", text(self.place.authority.clone())),
            ("service-account-private-key-file", text(self.tokens.key.clone())),
            ("use-service-account-credentials", "true".into()),
            ("allocate-node-cidrs", "false".into()),
            ("leader-elect", "false".into()),
            // It serves nobody.
            ("secure-port", "0".into()),
        ];
        self.controllers = Some(self.start("kube-controller-manager", &flags)?);
        let (admin, controllers) = (&self.admin, &mut self.controllers);
        within(UP, "the controller manager works", || {
            controllers.iter_mut().try_for_each(Running::must_run)?;
            Ok(admin.kubectl(&["get", "serviceaccount", "default"]).is_ok().then_some(()))
        })
    }

    fn etcd_url(&self) -> String {
        format!("http://{}:{}", self.address, self.ports.etcd)
    }

    fn audit_log(&self) -> PathBuf {
        self.dir.join("audit.json")
    }
}

/// Makes the directory, without what an earlier control plane left in it.
pub(super) fn empty(dir: &Path) -> anyhow::Result<()> {
    if dir.join(PKI).exists() {
        fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))
}

impl Ports {
    /// Nobody else takes ports at an address that only this test uses, so that they stay free until the programs listen.
    fn free(address: Ipv4Addr) -> anyhow::Result<Self> {
        let listen = || TcpListener::bind((address, 0)).with_context(|| format!("cannot listen at {address}"));
        let held = [listen()?, listen()?, listen()?];
        let port = |listener: &TcpListener| Ok::<_, std::io::Error>(listener.local_addr()?.port());
        Ok(Self { etcd: port(&held[0])?, peers: port(&held[1])?, api: port(&held[2])? })
    }
}
