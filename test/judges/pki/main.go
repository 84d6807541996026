// The Go judge of src/pki: reads a JSON list of questions on stdin and answers each with what crypto/x509 says.
// Standard library only. Run: go run . < questions.json; `go run . bench SECONDS DIR` measures the reference figures.
package main

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

type question struct {
	Op            string   `json:"op"`
	Pem           string   `json:"pem"`
	Issuer        string   `json:"issuer"`
	Intermediates []string `json:"intermediates"`
	Roots         []string `json:"roots"`
	At            int64    `json:"at"`
	Purpose       string   `json:"purpose"`
	Name          string   `json:"name"`
	Algorithm     string   `json:"algorithm"`
}

type answer map[string]any

func main() {
	if len(os.Args) > 3 && os.Args[1] == "bench" {
		bench(os.Args[2], os.Args[3])
		return
	}
	var questions []question
	if err := json.NewDecoder(os.Stdin).Decode(&questions); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	answers := make([]answer, len(questions))
	for i, q := range questions {
		result, err := reply(q)
		if err != nil {
			result = answer{"error": err.Error()}
		}
		answers[i] = result
	}
	json.NewEncoder(os.Stdout).Encode(answers)
}

func reply(q question) (answer, error) {
	switch q.Op {
	case "certificate":
		return certificate(q.Pem)
	case "request":
		return request(q.Pem)
	case "crl":
		return crl(q)
	case "key":
		return key(q.Pem)
	case "verify":
		return verify(q)
	case "make":
		return produce(q.Algorithm)
	}
	return nil, fmt.Errorf("unknown question %q", q.Op)
}

func block(text string) ([]byte, error) {
	b, _ := pem.Decode([]byte(text))
	if b == nil {
		return nil, errors.New("no PEM block")
	}
	return b.Bytes, nil
}

func parse(text string) (*x509.Certificate, error) {
	der, err := block(text)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func names(dns []string, ips []net.IP, uris []*url.URL, emails []string) []string {
	list := []string{}
	for _, n := range dns {
		list = append(list, "DNS:"+n)
	}
	for _, n := range ips {
		list = append(list, "IP:"+n.String())
	}
	for _, n := range uris {
		list = append(list, "URI:"+n.String())
	}
	for _, n := range emails {
		list = append(list, "email:"+n)
	}
	return list
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func certificate(text string) (answer, error) {
	c, err := parse(text)
	if err != nil {
		return nil, err
	}
	usages := []int{}
	for _, u := range c.ExtKeyUsage {
		usages = append(usages, int(u))
	}
	return answer{
		"fingerprint": digest(c.Raw), "spki": digest(c.RawSubjectPublicKeyInfo), "serial": c.SerialNumber.Text(16),
		"subject": c.Subject.String(), "issuer": c.Issuer.String(),
		"notBefore": c.NotBefore.UnixMilli(), "notAfter": c.NotAfter.UnixMilli(),
		"names": names(c.DNSNames, c.IPAddresses, c.URIs, c.EmailAddresses),
		"isCa":  c.IsCA, "pathLength": c.MaxPathLen, "keyUsage": int(c.KeyUsage), "extendedKeyUsage": usages,
		"ski": hex.EncodeToString(c.SubjectKeyId), "aki": hex.EncodeToString(c.AuthorityKeyId),
		"unhandled": len(c.UnhandledCriticalExtensions), "crl": c.CRLDistributionPoints,
		"permitted": c.PermittedDNSDomains, "excluded": c.ExcludedDNSDomains,
	}, nil
}

func request(text string) (answer, error) {
	der, err := block(text)
	if err != nil {
		return nil, err
	}
	r, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, err
	}
	if err := r.CheckSignature(); err != nil {
		return nil, err
	}
	return answer{
		"subject": r.Subject.String(), "spki": digest(r.RawSubjectPublicKeyInfo),
		"names": names(r.DNSNames, r.IPAddresses, r.URIs, r.EmailAddresses),
	}, nil
}

func crl(q question) (answer, error) {
	der, err := block(q.Pem)
	if err != nil {
		return nil, err
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, err
	}
	issuer, err := parse(q.Issuer)
	if err != nil {
		return nil, err
	}
	if err := list.CheckSignatureFrom(issuer); err != nil {
		return nil, err
	}
	entries := []answer{}
	for _, e := range list.RevokedCertificateEntries {
		entries = append(entries, answer{
			"serial": e.SerialNumber.Text(16), "revocationDate": e.RevocationTime.UnixMilli(), "reason": e.ReasonCode,
		})
	}
	return answer{
		"number": list.Number.Text(16), "thisUpdate": list.ThisUpdate.UnixMilli(),
		"nextUpdate": list.NextUpdate.UnixMilli(), "entries": entries, "aki": hex.EncodeToString(list.AuthorityKeyId),
	}, nil
}

func key(text string) (answer, error) {
	der, err := block(text)
	if err != nil {
		return nil, err
	}
	k, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(k.(crypto.Signer).Public())
	if err != nil {
		return nil, err
	}
	return answer{"spki": digest(spki)}, nil
}

func verify(q question) (answer, error) {
	leaf, err := parse(q.Pem)
	if err != nil {
		return nil, err
	}
	options := x509.VerifyOptions{
		Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: time.UnixMilli(q.At),
		DNSName: q.Name, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if q.Purpose == "client" {
		options.KeyUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	for _, text := range q.Roots {
		options.Roots.AppendCertsFromPEM([]byte(text))
	}
	for _, text := range q.Intermediates {
		options.Intermediates.AppendCertsFromPEM([]byte(text))
	}
	chains, err := leaf.Verify(options)
	if err != nil {
		return nil, err
	}
	return answer{"length": len(chains[0])}, nil
}

func signer(algorithm string) (crypto.Signer, error) {
	switch algorithm {
	case "P-256":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "P-384":
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "RSA-2048":
		return rsa.GenerateKey(rand.Reader, 2048)
	case "Ed25519":
		_, k, err := ed25519.GenerateKey(rand.Reader)
		return k, err
	}
	return nil, fmt.Errorf("unknown algorithm %q", algorithm)
}

func text(label string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der}))
}

// produce makes one of everything for our parsers to read.
func produce(algorithm string) (answer, error) {
	caKey, err := signer(algorithm)
	if err != nil {
		return nil, err
	}
	leafKey, err := signer(algorithm)
	if err != nil {
		return nil, err
	}
	now := time.Now().Truncate(time.Second)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "go root", Organization: []string{"Judges"}},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(40, 0, 0), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, PermittedDNSDomains: []string{"go.example"},
		PermittedDNSDomainsCritical: true,
	}
	caDer, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return nil, err
	}
	ca, err = x509.ParseCertificate(caDer)
	if err != nil {
		return nil, err
	}
	uri, _ := url.Parse("spiffe://td/work load")
	uri, _ = url.Parse(uri.String())
	leaf := &x509.Certificate{
		SerialNumber: new(big.Int).Lsh(big.NewInt(0x9f), 100), Subject: pkix.Name{CommonName: "a,b+c \"q\" é"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour), DNSNames: []string{"shop.go.example", "*.go.example"},
		IPAddresses: []net.IP{net.ParseIP("10.1.2.3"), net.ParseIP("2001:db8::1:0:0:1")}, URIs: []*url.URL{uri},
		EmailAddresses: []string{"a@go.example"}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		CRLDistributionPoints: []string{"http://crl.go.example/1.crl"},
	}
	leafDer, err := x509.CreateCertificate(rand.Reader, leaf, ca, leafKey.Public(), caKey)
	if err != nil {
		return nil, err
	}
	requestDer, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "shop"}, DNSNames: leaf.DNSNames, IPAddresses: leaf.IPAddresses,
	}, leafKey)
	if err != nil {
		return nil, err
	}
	listDer, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(300), ThisUpdate: now, NextUpdate: now.Add(time.Hour),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: leaf.SerialNumber, RevocationTime: now, ReasonCode: 1}},
	}, ca, caKey)
	if err != nil {
		return nil, err
	}
	keyDer, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		return nil, err
	}
	return answer{
		"ca": text("CERTIFICATE", caDer), "leaf": text("CERTIFICATE", leafDer), "request": text("CERTIFICATE REQUEST", requestDer),
		"crl": text("X509 CRL", listDer), "key": text("PRIVATE KEY", keyDer),
	}, nil
}

// ---- reference figures ----------------------------------------------------------------------------------------------

func rate(seconds float64, one func()) float64 {
	for i := 0; i < 20; i++ {
		one()
	}
	count, start := 0, time.Now()
	for time.Since(start).Seconds() < seconds {
		for i := 0; i < 10; i++ {
			one()
		}
		count += 10
	}
	return float64(count) / time.Since(start).Seconds()
}

// bench prints {issue, parse, scan}: P-256 leaves from a CSR per second, PEM certificates parsed per second in memory,
// and files of DIR read and parsed per second (0 for an empty DIR).
func bench(secondsText, dir string) {
	seconds, _ := strconv.ParseFloat(secondsText, 64)
	made, err := produce("P-256")
	if err != nil {
		panic(err)
	}
	caKey, _ := signer("P-256")
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().AddDate(10, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDer, _ := x509.CreateCertificate(rand.Reader, template, template, caKey.Public(), caKey)
	ca, _ := x509.ParseCertificate(caDer)
	requestDer, _ := block(made["request"].(string))
	issue := func() {
		r, err := x509.ParseCertificateRequest(requestDer)
		if err != nil || r.CheckSignature() != nil {
			panic("request")
		}
		serial := make([]byte, 16)
		rand.Read(serial)
		leaf := &x509.Certificate{
			SerialNumber: new(big.Int).SetBytes(serial), Subject: r.Subject, NotBefore: time.Now(),
			NotAfter: time.Now().Add(24 * time.Hour), DNSNames: r.DNSNames, IPAddresses: r.IPAddresses,
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
			BasicConstraintsValid: true,
		}
		if _, err := x509.CreateCertificate(rand.Reader, leaf, ca, r.PublicKey, caKey); err != nil {
			panic(err)
		}
	}
	leafPem := []byte(made["leaf"].(string))
	scanOne := func(data []byte) {
		b, _ := pem.Decode(bytes.TrimSpace(data))
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil || len(digest(c.Raw)) != 64 || c.Subject.String() == "" || c.Issuer.String() == "" {
			panic("certificate")
		}
	}
	result := answer{"issue": rate(seconds, issue), "parse": rate(seconds, func() { scanOne(leafPem) }), "scan": 0.0}
	files, _ := filepath.Glob(filepath.Join(dir, "*.pem"))
	if len(files) > 0 {
		start := time.Now()
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				panic(err)
			}
			scanOne(data)
		}
		result["scan"] = float64(len(files)) / time.Since(start).Seconds()
	}
	json.NewEncoder(os.Stdout).Encode(result)
}
