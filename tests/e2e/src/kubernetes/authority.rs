//! The certificates of one control plane.

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

/// Signs for servers and users of one cluster.
pub(super) struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// Two files.
#[derive(Debug)]
pub(super) struct Pair {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    /// Makes one, whose files are in that directory.
    pub(super) fn make(dir: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(dir)?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, "kubernetes");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let authority = Self { dir: dir.to_owned(), issuer: Issuer::new(params.clone(), key) };
        fs::write(authority.certificate(), params.self_signed(authority.issuer.key())?.pem())?;
        Ok(authority)
    }

    /// Its own.
    pub(super) fn certificate(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    /// For a user with that name, in these groups.
    pub(super) fn user(&self, file: &str, name: &str, groups: &[&str]) -> anyhow::Result<Pair> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        for group in groups {
            params.distinguished_name.push(DnType::OrganizationName, *group);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(file, params)
    }

    /// For a server that is reached by these addresses and names.
    pub(super) fn server(&self, file: &str, hosts: &[&str]) -> anyhow::Result<Pair> {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts)?;
        params.distinguished_name.push(DnType::CommonName, file);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(file, params)
    }

    /// What service accounts' tokens are signed with: no certificate but the public key.
    pub(super) fn tokens(&self) -> anyhow::Result<Pair> {
        let key = KeyPair::generate()?;
        self.keep("service-accounts", &key.public_key_pem(), &key)
    }

    fn sign(&self, file: &str, mut params: CertificateParams) -> anyhow::Result<Pair> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        self.keep(file, &params.signed_by(&key, &self.issuer)?.pem(), &key)
    }

    fn keep(&self, file: &str, public: &str, key: &KeyPair) -> anyhow::Result<Pair> {
        let (certificate, private) = (self.dir.join(format!("{file}.crt")), self.dir.join(format!("{file}.key")));
        fs::write(&certificate, public)?;
        let mut secret = fs::File::options().create_new(true).write(true).mode(0o600).open(&private)?;
        secret.write_all(key.serialize_pem().as_bytes())?;
        Ok(Pair { certificate, key: private })
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({}, key hidden)", self.dir.display())
    }
}
