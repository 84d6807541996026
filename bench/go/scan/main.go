// The reference for bench/scan.ts: reads every file of a directory, decodes and parses its certificates and takes the
// fields that `gyre scan` tells. Standard library only, one loop. Prints nanoseconds, count and a checksum of lengths.
package main

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

type found struct {
	where, subject, issuer, serial, fingerprint string
	names                                       []string
	days                                        int
	isCA                                        bool
}

func main() {
	dir := os.Args[1]
	begin := time.Now()
	entries, err := os.ReadDir(dir)
	if err != nil {
		panic(err)
	}
	now := time.Now()
	count, length := 0, 0
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		rest, err := os.ReadFile(path)
		if err != nil {
			panic(err)
		}
		for {
			var block *pem.Block
			block, rest = pem.Decode(rest)
			if block == nil {
				break
			}
			certificate, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				panic(err)
			}
			digest := sha256.Sum256(certificate.Raw)
			one := found{
				where:       path,
				subject:     certificate.Subject.String(),
				issuer:      certificate.Issuer.String(),
				serial:      certificate.SerialNumber.Text(16),
				fingerprint: hex.EncodeToString(digest[:]),
				names:       certificate.DNSNames,
				days:        int(certificate.NotAfter.Sub(now).Hours() / 24),
				isCA:        certificate.IsCA,
			}
			count++
			length += len(one.fingerprint)
		}
	}
	fmt.Printf("%d %d %d\n", time.Since(begin).Nanoseconds(), count, length)
}
