/* A DTLS-SRTP client with mbedTLS (2.28 or 3), set up as libdatachannel sets it up: the WebRTC of OBS on Windows and
 * macOS. Speaks DTLS over UDP to a port of the loopback, where the test stands between it and the server.
 *
 *     mbedtls MTU SUITE      SUITE: "default", or the one to offer
 *
 * Says "fingerprint AB:..." of its certificate; reads "PORT FINGERPRINT" of the server from its standard input; says
 * "keys HEX", the keying material of RFC 5764, section 4.2, or "failed REASON". The end of its input is the end of the
 * connection; a goodbye of the server is told as "closed".
 */
#include <arpa/inet.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <mbedtls/ctr_drbg.h>
#include <mbedtls/ecp.h>
#include <mbedtls/entropy.h>
#include <mbedtls/md.h>
#include <mbedtls/pk.h>
#include <mbedtls/ssl.h>
#include <mbedtls/ssl_ciphersuites.h>
#include <mbedtls/version.h>
#include <mbedtls/x509_crt.h>

#ifndef MBEDTLS_PRIVATE
#define MBEDTLS_PRIVATE(member) member
#endif

/* AES_CM_128_HMAC_SHA1_80: two keys of 16 bytes, two salts of 14. */
#define KEYING_MATERIAL_LEN (2 * (16 + 14))
#define FINGERPRINT_LEN (3 * 32)

static mbedtls_entropy_context entropy;
static mbedtls_ctr_drbg_context drbg;
static mbedtls_x509_crt certificate;
static mbedtls_pk_context key;
static char expected[FINGERPRINT_LEN];
static int udp;

static struct {
    struct timespec set_at;
    unsigned intermediate_ms, final_ms;
} timer;

static struct {
    unsigned char master[48];
    unsigned char randoms[64];
    mbedtls_tls_prf_types prf;
} secrets;

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    printf("failed ");
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
    exit(1);
}

static void must(int result, const char *what) {
    if (result < 0)
        fail("%s: -0x%04x", what, -result);
}

static void write_fingerprint(const mbedtls_x509_crt *of, char *text) {
    unsigned char hash[32];
    must(mbedtls_md(mbedtls_md_info_from_type(MBEDTLS_MD_SHA256), of->raw.p, of->raw.len, hash), "SHA-256");
    for (int at = 0; at < 32; at++)
        sprintf(text + 3 * at, at < 31 ? "%02X:" : "%02X", hash[at]);
}

/* libdatachannel's certificate: version 3 without extensions (mbedTLS writes an empty list), ECDSA P-256. */
static void make_certificate(void) {
    mbedtls_x509write_cert writer;
    mbedtls_mpi serial;
    unsigned char number[16], der[4096];
    char from[16], until[16];
    const char *name = "O=libdatachannel,CN=libdatachannel";
    time_t now = time(NULL), begins = now - 3600, ends = now + 365 * 24 * 3600;
    mbedtls_x509write_crt_init(&writer);
    mbedtls_mpi_init(&serial);
    must(mbedtls_pk_setup(&key, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY)), "a key");
    must(mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(key), mbedtls_ctr_drbg_random, &drbg),
         "a key of P-256");
    must(mbedtls_ctr_drbg_random(&drbg, number, sizeof number), "a serial number");
    must(mbedtls_mpi_read_binary(&serial, number, sizeof number), "a serial number");
    must(mbedtls_x509write_crt_set_serial(&writer, &serial), "the serial number");
    must(mbedtls_x509write_crt_set_subject_name(&writer, name), "the subject");
    must(mbedtls_x509write_crt_set_issuer_name(&writer, name), "the issuer");
    strftime(from, sizeof from, "%Y%m%d%H%M%S", gmtime(&begins));
    strftime(until, sizeof until, "%Y%m%d%H%M%S", gmtime(&ends));
    must(mbedtls_x509write_crt_set_validity(&writer, from, until), "the validity");
    mbedtls_x509write_crt_set_version(&writer, MBEDTLS_X509_CRT_VERSION_3);
    mbedtls_x509write_crt_set_subject_key(&writer, &key);
    mbedtls_x509write_crt_set_issuer_key(&writer, &key);
    mbedtls_x509write_crt_set_md_alg(&writer, MBEDTLS_MD_SHA256);
    int length = mbedtls_x509write_crt_der(&writer, der, sizeof der, mbedtls_ctr_drbg_random, &drbg);
    must(length, "a certificate");
    must(mbedtls_x509_crt_parse_der(&certificate, der + sizeof der - length, length), "its own certificate");
    mbedtls_mpi_free(&serial);
    mbedtls_x509write_crt_free(&writer);
}

/* Every certificate is taken that has the fingerprint of the description. */
static int verify(void *context, mbedtls_x509_crt *shown, int depth, uint32_t *flags) {
    char text[FINGERPRINT_LEN];
    (void)context, (void)depth, (void)flags;
    write_fingerprint(shown, text);
    return strcmp(text, expected) == 0 ? 0 : 1;
}

static void keep_secrets(const unsigned char *master, const unsigned char *client_random,
                         const unsigned char *server_random, mbedtls_tls_prf_types prf) {
    memcpy(secrets.master, master, 48);
    memcpy(secrets.randoms, client_random, 32);
    memcpy(secrets.randoms + 32, server_random, 32);
    secrets.prf = prf;
}

#if MBEDTLS_VERSION_MAJOR < 3
static int export_keys(void *context, const unsigned char *master, const unsigned char *block, size_t mac, size_t cipher,
                       size_t iv, const unsigned char client_random[32], const unsigned char server_random[32],
                       mbedtls_tls_prf_types prf) {
    (void)context, (void)block, (void)mac, (void)cipher, (void)iv;
    keep_secrets(master, client_random, server_random, prf);
    return 0;
}
#else
static void export_keys(void *context, mbedtls_ssl_key_export_type type, const unsigned char *secret, size_t length,
                        const unsigned char client_random[32], const unsigned char server_random[32],
                        mbedtls_tls_prf_types prf) {
    (void)context, (void)type, (void)length;
    keep_secrets(secret, client_random, server_random, prf);
}
#endif

static unsigned elapsed_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (now.tv_sec - timer.set_at.tv_sec) * 1000 + (now.tv_nsec - timer.set_at.tv_nsec) / 1000000;
}

static void set_timer(void *context, uint32_t intermediate_ms, uint32_t final_ms) {
    (void)context;
    timer.intermediate_ms = intermediate_ms;
    timer.final_ms = final_ms;
    clock_gettime(CLOCK_MONOTONIC, &timer.set_at);
}

static int get_timer(void *context) {
    (void)context;
    if (timer.final_ms == 0)
        return -1;
    return elapsed_ms() >= timer.final_ms ? 2 : elapsed_ms() >= timer.intermediate_ms ? 1 : 0;
}

static int send_datagram(void *context, const unsigned char *bytes, size_t length) {
    (void)context;
    /* What cannot be sent is lost. */
    (void)!send(udp, bytes, length, 0);
    return (int)length;
}

static int receive_datagram(void *context, unsigned char *bytes, size_t length) {
    (void)context;
    ssize_t received = recv(udp, bytes, length, MSG_DONTWAIT);
    return received < 0 ? MBEDTLS_ERR_SSL_WANT_READ : (int)received;
}

/* Ready streams: 1 the datagrams, 2 the standard input. */
static int wait_for(int timeout_ms) {
    struct pollfd ready[2] = {{.fd = udp, .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
    poll(ready, 2, timeout_ms);
    return (ready[0].revents ? 1 : 0) | (ready[1].revents ? 2 : 0);
}

static void set_up(mbedtls_ssl_context *ssl, mbedtls_ssl_config *config, const char *suite) {
    static const mbedtls_ssl_srtp_profile profiles[] = {MBEDTLS_TLS_SRTP_AES128_CM_HMAC_SHA1_80, MBEDTLS_TLS_SRTP_UNSET};
    static int suites[2];
    must(mbedtls_ssl_config_defaults(config, MBEDTLS_SSL_IS_CLIENT, MBEDTLS_SSL_TRANSPORT_DATAGRAM,
                                     MBEDTLS_SSL_PRESET_DEFAULT), "defaults");
    mbedtls_ssl_conf_max_version(config, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_3);
    mbedtls_ssl_conf_authmode(config, MBEDTLS_SSL_VERIFY_OPTIONAL);
    mbedtls_ssl_conf_verify(config, verify, NULL);
    mbedtls_ssl_conf_rng(config, mbedtls_ctr_drbg_random, &drbg);
    must(mbedtls_ssl_conf_own_cert(config, &certificate, &key), "its own certificate");
    must(mbedtls_ssl_conf_dtls_srtp_protection_profiles(config, profiles), "SRTP");
    if (strcmp(suite, "default") != 0) {
        suites[0] = mbedtls_ssl_get_ciphersuite_id(suite);
        if (suites[0] == 0)
            fail("no suite %s", suite);
        mbedtls_ssl_conf_ciphersuites(config, suites);
    }
#if MBEDTLS_VERSION_MAJOR < 3
    mbedtls_ssl_conf_export_keys_ext_cb(config, export_keys, NULL);
#endif
    must(mbedtls_ssl_setup(ssl, config), "set-up");
#if MBEDTLS_VERSION_MAJOR >= 3
    mbedtls_ssl_set_export_keys_cb(ssl, export_keys, NULL);
#endif
    mbedtls_ssl_set_bio(ssl, NULL, send_datagram, receive_datagram, NULL);
    mbedtls_ssl_set_timer_cb(ssl, NULL, set_timer, get_timer);
}

static void say_keys(mbedtls_ssl_context *ssl) {
    mbedtls_dtls_srtp_info srtp;
    unsigned char material[KEYING_MATERIAL_LEN];
    mbedtls_ssl_get_dtls_srtp_negotiation_result(ssl, &srtp);
    if (srtp.MBEDTLS_PRIVATE(chosen_dtls_srtp_profile) != MBEDTLS_TLS_SRTP_AES128_CM_HMAC_SHA1_80)
        fail("no SRTP profile");
    must(mbedtls_ssl_tls_prf(secrets.prf, secrets.master, sizeof secrets.master, "EXTRACTOR-dtls_srtp",
                             secrets.randoms, sizeof secrets.randoms, material, sizeof material), "keying material");
    printf("suite %s\nkeys ", mbedtls_ssl_get_ciphersuite(ssl));
    for (size_t at = 0; at < sizeof material; at++)
        printf("%02x", material[at]);
    printf("\n");
}

int main(int count, char **arguments) {
    mbedtls_ssl_context ssl;
    mbedtls_ssl_config config;
    unsigned port;
    char own[FINGERPRINT_LEN], input[256];
    if (count != 3)
        fail("two arguments, please");
    setvbuf(stdout, NULL, _IOLBF, 0);
    mbedtls_ssl_init(&ssl);
    mbedtls_ssl_config_init(&config);
    mbedtls_x509_crt_init(&certificate);
    mbedtls_pk_init(&key);
    mbedtls_entropy_init(&entropy);
    mbedtls_ctr_drbg_init(&drbg);
    must(mbedtls_ctr_drbg_seed(&drbg, mbedtls_entropy_func, &entropy, NULL, 0), "a seed");
    make_certificate();
    write_fingerprint(&certificate, own);
    printf("fingerprint %s\n", own);
    ssize_t length = read(STDIN_FILENO, input, sizeof input - 1);
    input[length > 0 ? length : 0] = 0;
    if (sscanf(input, "%u %95s", &port, expected) != 2)
        fail("no port and fingerprint in %s", input);

    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(port)};
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    udp = socket(AF_INET, SOCK_DGRAM, 0);
    if (udp < 0 || connect(udp, (struct sockaddr *)&server, sizeof server) != 0)
        fail("no socket");
    set_up(&ssl, &config, arguments[2]);
    mbedtls_ssl_set_mtu(&ssl, atoi(arguments[1]));
    int result;
    while ((result = mbedtls_ssl_handshake(&ssl)) != 0) {
        if (result != MBEDTLS_ERR_SSL_WANT_READ)
            fail("the handshake: %s0x%04x", result < 0 ? "-" : "", result < 0 ? -result : result);
        unsigned since = elapsed_ms();
        if (wait_for(timer.final_ms > since ? timer.final_ms - since : 0) & 2)
            fail("given up");
    }
    say_keys(&ssl);
    while (1) {
        int ready = wait_for(-1);
        if (ready & 1) {
            unsigned char bytes[4096];
            do {
                result = mbedtls_ssl_read(&ssl, bytes, sizeof bytes);
            } while (result > 0);
            if (result == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY) {
                printf("closed\n");
                return 0;
            }
            if (result < 0 && result != MBEDTLS_ERR_SSL_WANT_READ)
                fail("after the handshake: -0x%04x", -result);
        }
        if (ready & 2) {
            mbedtls_ssl_close_notify(&ssl);
            return 0;
        }
    }
}
