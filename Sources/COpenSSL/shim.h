#ifndef COPENSSL_SHIM_H
#define COPENSSL_SHIM_H

#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

// Swift imports neither function-like macros nor macros with casts, so each
// one used from Swift gets a function of the same meaning here.

static inline int shim_SSL_CTX_set_min_tls12(SSL_CTX *context) {
  return SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
}

static inline int shim_SSL_CTX_set_min_tls13(SSL_CTX *context) {
  return SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
}

static inline void shim_SSL_CTX_read_ahead(SSL_CTX *context) {
  SSL_CTX_set_read_ahead(context, 1);
}

static inline void shim_SSL_CTX_no_renegotiation(SSL_CTX *context) {
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION);
}

static inline void shim_SSL_CTX_release_buffers(SSL_CTX *context) {
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
}

static inline long shim_SSL_CTX_no_session_cache(SSL_CTX *context) {
  return SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
}

static inline long shim_SSL_set_server_name(SSL *ssl, const char *name) {
  return SSL_set_tlsext_host_name(ssl, name);
}

// One pointer of the owner's in each SSL, and the way back to it from a verify callback.
static inline int shim_SSL_set_owner(SSL *ssl, void *owner) { return SSL_set_app_data(ssl, owner); }

static inline void *shim_X509_STORE_CTX_owner(X509_STORE_CTX *store) {
  SSL *ssl = (SSL *)X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
  return ssl ? SSL_get_app_data(ssl) : 0;
}

static inline size_t shim_BIO_pending(BIO *bio) { return BIO_ctrl_pending(bio); }

static inline void shim_BIO_set_empty_is_retry(BIO *bio) { BIO_set_mem_eof_return(bio, -1); }

static inline int shim_general_names_count(const GENERAL_NAMES *names) {
  return sk_GENERAL_NAME_num(names);
}

// The kind of a subject alternative name (GEN_DNS, GEN_IPADD, GEN_URI …), and its bytes.
static inline int shim_general_name(const GENERAL_NAMES *names, int index, const unsigned char **bytes, int *length) {
  int kind = 0;
  const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, index);
  ASN1_STRING *value = (ASN1_STRING *)GENERAL_NAME_get0_value(name, &kind);
  *bytes = 0;
  *length = 0;
  if (kind == GEN_DNS || kind == GEN_URI || kind == GEN_IPADD || kind == GEN_EMAIL) {
    *bytes = ASN1_STRING_get0_data(value);
    *length = ASN1_STRING_length(value);
  }
  return kind;
}

static inline unsigned long shim_XN_FLAG_ONELINE(void) { return XN_FLAG_ONELINE; }

static inline int shim_ERR_reason(unsigned long code) { return ERR_GET_REASON(code); }
static inline int shim_ERR_library(unsigned long code) { return ERR_GET_LIB(code); }

#endif
