import java.io.BufferedReader;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.security.KeyStore;
import java.security.cert.CertStore;
import java.security.cert.CertificateFactory;
import java.security.cert.CollectionCertStoreParameters;
import java.security.cert.PKIXBuilderParameters;
import java.security.cert.PKIXRevocationChecker;
import java.security.cert.CertPathBuilder;
import java.security.cert.X509CertSelector;
import java.security.cert.X509Certificate;
import java.util.EnumSet;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import javax.net.ssl.CertPathTrustManagerParameters;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLException;
import javax.net.ssl.SSLPeerUnverifiedException;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManager;
import javax.net.ssl.TrustManagerFactory;

/**
 * A mutual-TLS service on JSSE that reads its PKCS#12 key store, CA bundle and CRL once, at start, as most Java services do.
 * Arguments: host port keystore ca|- crl|-; the store's password in KEYSTORE_PASSWORD. One request for each connection.
 */
public class Server {
  public static void main(String[] args) throws Exception {
    char[] password = System.getenv("KEYSTORE_PASSWORD").toCharArray();
    KeyStore keys = KeyStore.getInstance("PKCS12");
    try (InputStream in = new FileInputStream(args[2])) {
      keys.load(in, password);
    }
    KeyManagerFactory keyManagers = KeyManagerFactory.getInstance("PKIX");
    keyManagers.init(keys, password);
    boolean mutual = !args[3].equals("-");
    TrustManager[] trust = mutual ? trust(args[3], args[4]) : null;
    SSLContext context = SSLContext.getInstance("TLS");
    context.init(keyManagers.getKeyManagers(), trust, null);

    ExecutorService workers = Executors.newFixedThreadPool(8);
    try (ServerSocket listener = new ServerSocket(Integer.parseInt(args[1]), 64, InetAddress.getByName(args[0]))) {
      System.out.println("listening on " + args[0] + ":" + args[1]);
      while (true) {
        Socket connection = listener.accept();
        workers.submit(() -> serve(context, connection, mutual));
      }
    }
  }

  private static TrustManager[] trust(String bundle, String crl) throws Exception {
    CertificateFactory x509 = CertificateFactory.getInstance("X.509");
    KeyStore anchors = KeyStore.getInstance("PKCS12");
    anchors.load(null, null);
    try (InputStream in = new FileInputStream(bundle)) {
      int n = 0;
      for (var certificate : x509.generateCertificates(in)) anchors.setCertificateEntry("ca" + n++, certificate);
    }
    PKIXBuilderParameters path = new PKIXBuilderParameters(anchors, new X509CertSelector());
    path.setRevocationEnabled(!crl.equals("-"));
    if (!crl.equals("-")) {
      try (InputStream in = new FileInputStream(crl)) {
        path.addCertStore(CertStore.getInstance("Collection", new CollectionCertStoreParameters(x509.generateCRLs(in))));
      }
      PKIXRevocationChecker checker = (PKIXRevocationChecker) CertPathBuilder.getInstance("PKIX").getRevocationChecker();
      checker.setOptions(EnumSet.of(PKIXRevocationChecker.Option.PREFER_CRLS, PKIXRevocationChecker.Option.NO_FALLBACK));
      path.addCertPathChecker(checker);
    }
    TrustManagerFactory managers = TrustManagerFactory.getInstance("PKIX");
    managers.init(new CertPathTrustManagerParameters(path));
    return managers.getTrustManagers();
  }

  private static void serve(SSLContext context, Socket connection, boolean mutual) {
    try (connection) {
      connection.setSoTimeout(10_000);
      SSLSocket socket = (SSLSocket) context.getSocketFactory().createSocket(connection, null, false);
      socket.setUseClientMode(false);
      socket.setNeedClientAuth(mutual);
      try {
        socket.startHandshake();
        answer(socket);
        socket.close();
      } catch (SSLException refused) {
        System.out.println("refused: " + refused.getMessage());
      }
      linger(connection);
    } catch (IOException gone) {
      System.out.println("gone: " + gone.getMessage());
    }
  }

  /** Closing with unread data makes TCP send a reset, which may overtake the alert: read on until the client closes. */
  private static void linger(Socket connection) throws IOException {
    connection.shutdownOutput();
    connection.setSoTimeout(2_000);
    byte[] rest = new byte[4096];
    while (connection.getInputStream().read(rest) >= 0) {}
  }

  private static void answer(SSLSocket socket) throws IOException {
    BufferedReader in = new BufferedReader(new InputStreamReader(socket.getInputStream(), StandardCharsets.ISO_8859_1));
    String line = in.readLine();
    if (line == null) return;
    while (line != null && !line.isEmpty()) line = in.readLine();
    String serial = serialOf(socket);
    String named = serial == null ? "" : ", \"serial\": \"" + serial + "\"";
    String body = "{\"server\": \"java\"" + named + "}\n";
    String header = serial == null ? "" : "X-Client-Serial: " + serial + "\r\n";
    String reply = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + header
        + "Content-Length: " + body.length() + "\r\nConnection: close\r\n\r\n" + body;
    socket.getOutputStream().write(reply.getBytes(StandardCharsets.ISO_8859_1));
    socket.getOutputStream().flush();
  }

  private static String serialOf(SSLSocket socket) {
    try {
      X509Certificate leaf = (X509Certificate) socket.getSession().getPeerCertificates()[0];
      return leaf.getSerialNumber().toString(16).toUpperCase();
    } catch (SSLPeerUnverifiedException none) {
      return null;
    }
  }
}
