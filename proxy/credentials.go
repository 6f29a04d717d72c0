package proxy

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"weir/queue"
)

// Callers' keys must outlive a restart, because their data does. They are
// notes of the queue, sealed with AES-256-GCM under a key that lies in a file
// of its own; everything else names them by fingerprint.
const (
	credentialNotes   = "credential/" //nolint:gosec // a prefix, not a secret
	fingerprintPrefix = "key:"
	sealingKeyBytes   = 32

	// MaxAPIKeyBytes bounds a caller's key.
	MaxAPIKeyBytes = 1024
)

// errUnknownCredential marks a fingerprint whose key cannot be had.
var errUnknownCredential = errors.New("the key this data came with cannot be read")

// Vault keeps callers' keys. It may be used by any number of goroutines.
type Vault struct {
	q    *queue.Queue
	aead cipher.AEAD
	mac  []byte // key of the fingerprints

	mu   sync.RWMutex      // guards keys; never held while a note is written
	keys map[string]string // fingerprint to key
}

// OpenVault reads the sealing key from path, creating it with mode 0600 if it
// does not exist, and the sealed keys from the queue, forgetting those that no
// data on disk needs. It is called before anything is accepted. Keys that do
// not open under the sealing key are reported in unreadable by fingerprint;
// their data stays on disk.
func OpenVault(q *queue.Queue, path string) (v *Vault, unreadable []string, err error) {
	secret, err := sealingKey(path)
	if err != nil {
		return nil, nil, err
	}
	block, err := aes.NewCipher(derive(secret, "seal"))
	if err != nil {
		return nil, nil, fmt.Errorf("set up sealing: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, nil, fmt.Errorf("set up sealing: %w", err)
	}
	v = &Vault{q: q, aead: aead, mac: derive(secret, "fingerprint"), keys: map[string]string{}}
	needed := neededCredentials(q)
	for name, sealed := range q.Notes(credentialNotes) {
		fp := strings.TrimPrefix(name, credentialNotes)
		if !needed[fp] {
			if err := q.SetNote(name, nil); err != nil {
				return nil, nil, fmt.Errorf("forget a caller's key: %w", err)
			}
			continue
		}
		key, err := v.unseal(fp, sealed)
		if err != nil {
			unreadable = append(unreadable, fp)
			continue
		}
		v.keys[fp] = key
	}
	return v, unreadable, nil
}

func derive(secret []byte, purpose string) []byte {
	m := hmac.New(sha256.New, secret)
	m.Write([]byte("weir " + purpose))
	return m.Sum(nil)
}

// sealingKey reads or creates the file with the sealing key.
func sealingKey(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err == nil {
		key, derr := hex.DecodeString(strings.TrimSpace(string(b)))
		if derr != nil || len(key) != sealingKeyBytes {
			return nil, fmt.Errorf("sealing key file %s: want %d hexadecimal digits; restore the file, or move it away to begin with a new one (stored callers' keys are then unreadable)", path, 2*sealingKeyBytes)
		}
		return key, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read sealing key: %w", err)
	}
	key := make([]byte, sealingKeyBytes)
	if _, err := rand.Read(key); err != nil {
		return nil, fmt.Errorf("make sealing key: %w", err)
	}
	return key, writeDurably(path, []byte(hex.EncodeToString(key)+"\n"))
}

// writeDurably creates a file for the owner only, whole or not at all.
func writeDurably(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone already when all went well
	_, werr := f.Write(content)
	if err := errors.Join(werr, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("sync directory of %s: %w", path, err)
	}
	_ = dir.Sync() // not every system can; the rename is what matters
	return dir.Close()
}

// Fingerprint names a key without revealing it.
func (v *Vault) Fingerprint(key string) string {
	m := hmac.New(sha256.New, v.mac)
	m.Write([]byte(key))
	return fingerprintPrefix + hex.EncodeToString(m.Sum(nil)[:12])
}

// Keep makes a caller's key durable and returns its fingerprint.
func (v *Vault) Keep(key string) (string, error) {
	fp := v.Fingerprint(key)
	v.mu.RLock()
	_, known := v.keys[fp]
	v.mu.RUnlock()
	if known {
		return fp, nil
	}
	nonce := make([]byte, v.aead.NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		return "", fmt.Errorf("seal key: %w", err)
	}
	if err := v.q.SetNote(credentialNotes+fp, v.aead.Seal(nonce, nonce, []byte(key), []byte(fp))); err != nil {
		return "", fmt.Errorf("keep the caller's key: %w", err)
	}
	v.mu.Lock()
	v.keys[fp] = key
	v.mu.Unlock()
	return fp, nil
}

// Key is the key with a fingerprint.
func (v *Vault) Key(fingerprint string) (string, error) {
	v.mu.RLock()
	key, ok := v.keys[fingerprint]
	v.mu.RUnlock()
	if !ok {
		return "", errUnknownCredential
	}
	return key, nil
}

// neededCredentials are the fingerprints in lanes with data on disk.
func neededCredentials(q *queue.Queue) map[string]bool {
	needed := map[string]bool{}
	for _, l := range q.Lanes() {
		if lane, err := parseLane(l.Descriptor); err == nil && l.PendingFrames+l.HeldFrames+l.KeptItems > 0 {
			needed[lane.Credential] = true
		}
	}
	return needed
}

func (v *Vault) unseal(fp string, sealed []byte) (string, error) {
	n := v.aead.NonceSize()
	if len(sealed) < n {
		return "", errUnknownCredential
	}
	key, err := v.aead.Open(nil, sealed[:n], sealed[n:], []byte(fp))
	if err != nil {
		return "", errUnknownCredential
	}
	return string(key), nil
}
