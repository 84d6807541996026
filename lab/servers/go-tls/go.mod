module gyre.dev/lab/go-tls

go 1.19
