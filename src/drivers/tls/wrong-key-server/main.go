// A TLS server that shows a certificate and signs with whatever key it is given, which OpenSSL and nginx refuse to do.
package main

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"fmt"
	"log"
	"os"
)

func main() {
	certFile := flag.String("cert", "", "PEM chain, leaf first")
	keyFile := flag.String("key", "", "PEM, PKCS#8")
	flag.Parse()
	certificate := tls.Certificate{PrivateKey: readKey(*keyFile)}
	rest := mustRead(*certFile)
	for block, more := pem.Decode(rest); block != nil; block, more = pem.Decode(more) {
		certificate.Certificate = append(certificate.Certificate, block.Bytes)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("listening on %s\n", listener.Addr())
	for {
		connection, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go func() {
			_ = connection.(*tls.Conn).Handshake()
			_ = connection.Close()
		}()
	}
}

func readKey(path string) crypto.PrivateKey {
	block, _ := pem.Decode(mustRead(path))
	if block == nil {
		log.Fatalf("%s holds no PEM", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		log.Fatal(err)
	}
	return key
}

func mustRead(path string) []byte {
	text, err := os.ReadFile(path)
	if err != nil {
		log.Fatal(err)
	}
	return text
}
