#!/bin/sh
# An estate as it was before Gyre: a CA made with openssl, its CRL, and certificates put in place by hand. You have all of
# this already; run it to try the example. It does not write over what is there.
set -eu
cd "$(dirname "$0")"
[ ! -e ca/ca.crt ] || { echo "ca/ca.crt is there already; nothing was done" >&2; exit 1; }
: "${CA_PASSPHRASE:?say what encrypts the CA key: export CA_PASSPHRASE=...}"
umask 077
mkdir -p ca billing web-1/temp web-2/temp web-3/temp api/temp

openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -aes-256-cbc -pass env:CA_PASSPHRASE -out ca/ca.key
openssl req -x509 -new -key ca/ca.key -passin env:CA_PASSPHRASE -subj "/CN=Example CA" -days 3650 -out ca/ca.crt \
  -addext basicConstraints=critical,CA:true,pathlen:0 -addext keyUsage=critical,keyCertSign,cRLSign

# issue DIR NAMES USAGE: a key and a certificate for it, as DIR/tls.key and DIR/tls.pem
issue() {
  openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1/tls.key"
  openssl req -new -key "$1/tls.key" -subj "/CN=${2%%,*}" -out "$1/tls.csr"
  printf 'subjectAltName=%s\nextendedKeyUsage=%s\nkeyUsage=critical,digitalSignature\nbasicConstraints=critical,CA:false\nauthorityKeyIdentifier=keyid\n' \
    "DNS:$2" "$3" > "$1/tls.ext"
  openssl x509 -req -in "$1/tls.csr" -CA ca/ca.crt -CAkey ca/ca.key -passin env:CA_PASSPHRASE -days 90 \
    -extfile "$1/tls.ext" -out "$1/tls.pem" 2>/dev/null
  rm "$1/tls.csr" "$1/tls.ext"
}
issue web-1 shop.example serverAuth
for other in web-2 web-3; do cp web-1/tls.pem web-1/tls.key "$other"; done
issue api api.example serverAuth
issue billing billing.example clientAuth

# An empty CRL. nginx with ssl_crl and an expired one refuses everybody: that is what client-ca.crl is rotated for.
touch ca/index.txt
printf '[ca]\ndefault_ca=ca\n[ca]\ndatabase=ca/index.txt\ndefault_md=sha256\ncrl_extensions=crl\n[crl]\nauthorityKeyIdentifier=keyid\n' > ca/openssl.cnf
openssl ca -config ca/openssl.cnf -gencrl -cert ca/ca.crt -keyfile ca/ca.key -passin env:CA_PASSPHRASE -crldays 7 \
  -out api/client-ca.crl 2>/dev/null
rm ca/index.txt ca/openssl.cnf
# Workers that are not root read no keys (the master does), but everybody reads the public part.
chmod 755 . ca web-1 web-2 web-3 api
chmod 644 ca/ca.crt api/client-ca.crl
chmod 777 web-1/temp web-2/temp web-3/temp api/temp
