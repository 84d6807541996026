module gyre.dev/wrong-key-server

go 1.22
