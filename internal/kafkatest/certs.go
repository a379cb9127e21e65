package kafkatest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Certs are the PEM files for the TLS listeners. Every cluster has its own.
type Certs struct {
	CAFile   string // signed the brokers' certificate; they trust it for clients
	CertFile string // a client's certificate that the brokers accept
	KeyFile  string

	// Another authority and a client certificate of it, which neither side
	// trusts.
	OtherCAFile   string
	OtherCertFile string
	OtherKeyFile  string
}

// makeCerts writes the files, and the brokers' key and certificate in one.
func makeCerts(dir string) (certs Certs, brokerFile string, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Certs{}, "", err
	}
	path := func(name string) string { return filepath.Join(dir, name) }

	ca, err := newAuthority("kafkatest CA")
	if err != nil {
		return Certs{}, "", err
	}
	other, err := newAuthority("kafkatest untrusted CA")
	if err != nil {
		return Certs{}, "", err
	}
	certs = Certs{
		CAFile:        path("ca.pem"),
		CertFile:      path("client.pem"),
		KeyFile:       path("client-key.pem"),
		OtherCAFile:   path("other-ca.pem"),
		OtherCertFile: path("other-client.pem"),
		OtherKeyFile:  path("other-client-key.pem"),
	}
	brokerFile = path("broker.pem")

	err = errors.Join(
		writePEM(certs.CAFile, ca.certPEM()),
		writePEM(certs.OtherCAFile, other.certPEM()),
		ca.issue("broker", brokerFile, brokerFile),
		ca.issue("client", certs.CertFile, certs.KeyFile),
		other.issue("client", certs.OtherCertFile, certs.OtherKeyFile),
	)
	return certs, brokerFile, err
}

type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(name string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := certTemplate(name)
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &authority{cert, key}, err
}

func (a *authority) certPEM() *pem.Block {
	return &pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}
}

// issue writes a certificate for loopback, good for servers and clients, and
// its key. The two files may be one: Kafka reads its own that way.
func (a *authority) issue(name, certFile, keyFile string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := certTemplate(name)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	template.DNSNames = []string{"localhost"}
	template.IPAddresses = []net.IP{net.ParseIP(host)}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}

	keyPEM := &pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}
	cert := &pem.Block{Type: "CERTIFICATE", Bytes: der}
	if certFile == keyFile {
		return writePEM(certFile, keyPEM, cert)
	}
	return errors.Join(writePEM(keyFile, keyPEM), writePEM(certFile, cert))
}

func certTemplate(name string) *x509.Certificate {
	// The brokers' clocks are this machine's; the margin is for its jumps.
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(24 * time.Hour),
	}
}

func writePEM(file string, blocks ...*pem.Block) error {
	var content []byte
	for _, block := range blocks {
		content = append(content, pem.EncodeToMemory(block)...)
	}
	if err := os.WriteFile(file, content, 0o600); err != nil {
		return fmt.Errorf("write certificate: %w", err)
	}
	return nil
}
