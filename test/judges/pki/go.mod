module gyre.dev/judges/pki

go 1.22
