// Full TLS handshakes in a loop, as a Go client makes them: dial, verify the chain, capture the leaf, close.
// Usage: handshake ADDRESS SERVER_NAME ROOTS COUNT CONCURRENCY; prints seconds taken.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

func main() {
	if len(os.Args) != 6 {
		log.Fatal("usage: handshake ADDRESS SERVER_NAME ROOTS COUNT CONCURRENCY")
	}
	roots := x509.NewCertPool()
	pem, err := os.ReadFile(os.Args[3])
	if err != nil || !roots.AppendCertsFromPEM(pem) {
		log.Fatalf("%s: no roots", os.Args[3])
	}
	count, concurrency := number(os.Args[4]), number(os.Args[5])
	config := &tls.Config{ServerName: os.Args[2], RootCAs: roots, MinVersion: tls.VersionTLS13}
	run(os.Args[1], config, 200, concurrency) // warm
	began := time.Now()
	run(os.Args[1], config, count, concurrency)
	fmt.Printf("%.6f\n", time.Since(began).Seconds())
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		log.Fatal(err)
	}
	return n
}

func run(address string, config *tls.Config, count, concurrency int) {
	left := int64(count)
	var captured int64
	var group sync.WaitGroup
	for i := 0; i < concurrency; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			for atomic.AddInt64(&left, -1) >= 0 {
				atomic.AddInt64(&captured, int64(len(handshake(address, config))))
			}
		}()
	}
	group.Wait()
	if captured == 0 {
		log.Fatal("nothing was captured")
	}
}

// A connection of its own each time; without a session cache in the config nothing is resumed.
func handshake(address string, config *tls.Config) []byte {
	connection, err := net.Dial("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	client := tls.Client(connection, config)
	if err := client.Handshake(); err != nil {
		log.Fatal(err)
	}
	leaf := client.ConnectionState().PeerCertificates[0].Raw
	_ = client.Close()
	return leaf
}
