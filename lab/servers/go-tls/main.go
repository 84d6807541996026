// Command go-tls is a mutual-TLS HTTP server on the Go standard library: a peer with another TLS stack than OpenSSL.
// It refuses by TLS alert, reloads on SIGHUP, and can be told to misbehave.
package main

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

type options struct {
	listen, cert, key, ca, crl, pidFile, accessLog string
	readOnce                                       bool
	honourOld                                      time.Duration
	minVersion                                     string
}

// loaded is everything read from files at one moment.
type loaded struct {
	certificate tls.Certificate
	roots       []byte // PEM
	crls        []*x509.RevocationList
}

func load(o options) (*loaded, error) {
	certificate, err := tls.LoadX509KeyPair(o.cert, o.key)
	if err != nil {
		return nil, err
	}
	state := &loaded{certificate: certificate}
	if o.ca != "" {
		text, err := os.ReadFile(o.ca)
		if err != nil {
			return nil, err
		}
		if !x509.NewCertPool().AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s: no certificate in it", o.ca)
		}
		state.roots = text
	}
	if o.crl != "" {
		text, err := os.ReadFile(o.crl)
		if err != nil {
			return nil, err
		}
		for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
			list, err := x509.ParseRevocationList(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", o.crl, err)
			}
			state.crls = append(state.crls, list)
		}
	}
	return state, nil
}

// checkRevocation wants a current CRL of each issuer of the chain, as OpenSSL does with crl_check_all.
func (l *loaded) checkRevocation(chain []*x509.Certificate) error {
	if len(l.crls) == 0 {
		return nil
	}
	for i, certificate := range chain[:len(chain)-1] {
		issuer := chain[i+1]
		var current *x509.RevocationList
		for _, list := range l.crls {
			if list.CheckSignatureFrom(issuer) == nil {
				current = list
			}
		}
		if current == nil {
			return fmt.Errorf("no CRL of %s", issuer.Subject)
		}
		if time.Now().After(current.NextUpdate) {
			return errors.New("CRL has expired")
		}
		for _, revoked := range current.RevokedCertificates {
			if revoked.SerialNumber.Cmp(certificate.SerialNumber) == 0 {
				return errors.New("certificate revoked")
			}
		}
	}
	return nil
}

// revoked asks the state in force and, while a reload is young and -honour-old is set, the one before it.
func revoked(states []*loaded, chains [][]*x509.Certificate) error {
	var first error
	for _, state := range states {
		err := state.checkRevocation(chains[0])
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
	}
	return first
}

type server struct {
	options    options
	now        atomic.Value // *loaded
	mutex      sync.Mutex
	before     *loaded
	beforeEnd  time.Time
	log        *os.File
	minVersion uint16
}

func (s *server) states() []*loaded {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	states := []*loaded{s.now.Load().(*loaded)}
	if s.before != nil && time.Now().Before(s.beforeEnd) {
		states = append(states, s.before)
	}
	return states
}

func (s *server) reload() {
	if s.options.readOnce {
		fmt.Println("reload ignored: files were read once at start")
		return
	}
	fresh, err := load(s.options)
	if err != nil {
		fmt.Println("reload failed, the old state stays:", err)
		return
	}
	s.mutex.Lock()
	s.before = s.now.Load().(*loaded)
	s.beforeEnd = time.Now().Add(s.options.honourOld)
	s.now.Store(fresh)
	s.mutex.Unlock()
	fmt.Println("reloaded")
}

// config is made anew for each connection, so that trust and certificate are those in force when it begins. The
// standard library picks the alert: unknown_ca, certificate_expired, and bad_certificate for what VerifyConnection says.
func (s *server) config(*tls.ClientHelloInfo) (*tls.Config, error) {
	states := s.states()
	config := &tls.Config{
		MinVersion:   s.minVersion,
		Certificates: []tls.Certificate{states[0].certificate},
	}
	if s.options.ca == "" {
		return config, nil
	}
	config.ClientAuth = tls.RequireAndVerifyClientCert
	config.ClientCAs = x509.NewCertPool()
	for _, state := range states {
		config.ClientCAs.AppendCertsFromPEM(state.roots)
	}
	// Also asked for a resumed session, unlike VerifyPeerCertificate.
	config.VerifyConnection = func(state tls.ConnectionState) error {
		return revoked(states, state.VerifiedChains)
	}
	return config, nil
}

// certificate satisfies tls.Listen, which wants one although every connection has a config of its own.
func (s *server) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return &s.states()[0].certificate, nil
}

type use struct {
	Time      float64 `json:"time"`
	Serial    string  `json:"ssl_client_serial"`
	Issuer    string  `json:"ssl_client_i_dn"`
	Verify    string  `json:"ssl_client_verify"`
	Reused    string  `json:"ssl_session_reused"`
	Remote    string  `json:"remote_addr"`
	Status    int     `json:"status"`
	UserAgent string  `json:"http_user_agent"`
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer := map[string]any{"server": "go-tls", "reused": r.TLS.DidResume}
	remote, _, _ := net.SplitHostPort(r.RemoteAddr)
	line := use{Time: float64(time.Now().UnixMilli()) / 1000, Verify: "NONE", Reused: ".", Remote: remote, Status: 200, UserAgent: r.UserAgent()}
	if r.TLS.DidResume {
		line.Reused = "r"
	}
	if len(r.TLS.PeerCertificates) > 0 {
		peer := r.TLS.PeerCertificates[0]
		digest := sha256.Sum256(peer.Raw)
		line.Serial, line.Issuer, line.Verify = strings.ToUpper(peer.SerialNumber.Text(16)), peer.Issuer.String(), "SUCCESS"
		answer["serial"], answer["fingerprint"] = peer.SerialNumber.Text(16), hex.EncodeToString(digest[:])
		w.Header().Set("X-Client-Serial", line.Serial)
	}
	if s.log != nil {
		text, _ := json.Marshal(line)
		s.log.Write(append(text, '\n'))
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(answer)
}

func main() {
	var o options
	flag.StringVar(&o.listen, "listen", "127.0.0.1:0", "host:port")
	flag.StringVar(&o.cert, "cert", "", "PEM chain of the server, leaf first")
	flag.StringVar(&o.key, "key", "", "PEM key of the server")
	flag.StringVar(&o.ca, "ca", "", "PEM bundle for client certificates; without it none is asked for")
	flag.StringVar(&o.crl, "crl", "", "PEM CRLs for client certificates")
	flag.StringVar(&o.pidFile, "pid-file", "", "where to write the process id")
	flag.StringVar(&o.accessLog, "access-log", "", "one JSON line for each request")
	flag.StringVar(&o.minVersion, "min", "1.2", "1.2 or 1.3")
	flag.BoolVar(&o.readOnce, "read-once", false, "read the files at start and never again")
	flag.DurationVar(&o.honourOld, "honour-old", 0, "how long after a reload clients that only the state before it accepts are still accepted")
	flag.Parse()
	state, err := load(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	s := &server{options: o, minVersion: tls.VersionTLS12}
	if o.minVersion == "1.3" {
		s.minVersion = tls.VersionTLS13
	}
	s.now.Store(state)
	if o.accessLog != "" {
		if s.log, err = os.OpenFile(o.accessLog, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	listener, err := tls.Listen("tcp", o.listen, &tls.Config{GetConfigForClient: s.config, GetCertificate: s.certificate})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	hup := make(chan os.Signal, 8)
	signal.Notify(hup, syscall.SIGHUP)
	go func() {
		for range hup {
			s.reload()
		}
	}()
	if o.pidFile != "" {
		if err := os.WriteFile(o.pidFile, []byte(fmt.Sprintln(os.Getpid())), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	fmt.Println("listening on", listener.Addr())
	fmt.Fprintln(os.Stderr, http.Serve(listener, s))
	os.Exit(1)
}
