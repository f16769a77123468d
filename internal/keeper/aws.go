package keeper

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/secret"
)

// awsKMS is AWS KMS. Amazon's own library finds the credentials, signs and tries again; it calls over our client.
type awsKMS struct {
	at          Address
	api         *kms.Client
	credentials aws.CredentialsProvider
}

// awsMetadata are the fixed addresses where machines, containers and pods of AWS get the credentials of their roles, without TLS.
func awsMetadata() []string {
	return []string{"169.254.169.254", "fd00:ec2::254", "169.254.170.2", "169.254.170.23", "fd00:ec2::23"}
}

func openAWS(cfg Config) (*awsKMS, error) {
	a := cfg.Address
	// A private endpoint of a VPC has the service's public name and a private address.
	var hosts []string
	for _, service := range []string{"kms", "kms-fips", "sts", "sts-fips"} {
		for _, suffix := range []string{".amazonaws.com", ".amazonaws.com.cn", ".api.aws"} {
			hosts = append(hosts, service+"."+a.region+suffix)
		}
	}
	for _, name := range []string{"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KMS", "AWS_ENDPOINT_URL_STS"} {
		hosts = append(hosts, hostOf(cfg.Getenv(name)))
	}
	metadata := awsMetadata()
	for _, name := range []string{"AWS_EC2_METADATA_SERVICE_ENDPOINT", "AWS_CONTAINER_CREDENTIALS_FULL_URI"} {
		metadata = append(metadata, hostOf(cfg.Getenv(name)))
	}
	roots, err := cfg.trusted("AWS_CA_BUNDLE")
	if err != nil {
		return nil, err
	}
	client, err := guarded(hosts, metadata, roots)
	if err != nil {
		return nil, fmt.Errorf("the endpoints of AWS in the environment: %w", err)
	}
	backoff := 5 * time.Second
	if cfg.quick {
		backoff = time.Millisecond
	}
	ctx, cancel := context.WithTimeout(context.Background(), oneTry)
	defer cancel()
	options := []func(*config.LoadOptions) error{config.WithRegion(a.region), config.WithRetryer(func() aws.Retryer {
		return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.MaxBackoff = tries, backoff })
	})}
	if cfg.Getenv("AWS_CA_BUNDLE") == "" { // beside it the library takes no client but its own, which then fetches the credentials, and those alone
		options = append(options, config.WithHTTPClient(client))
	}
	loaded, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, a.fault(noCredentials, errors.New("AWS's settings in the environment or in its files cannot be read"))
	}
	loaded.HTTPClient = client
	return &awsKMS{at: a, api: kms.NewFromConfig(loaded), credentials: loaded.Credentials}, nil
}

// ask bounds an act, and sees first whether there are credentials at all: a failure to find some says little when it comes out of the act.
func (k *awsKMS) ask(ctx context.Context, act func(context.Context) error) error {
	asked := ctx
	ctx, cancel := context.WithTimeout(ctx, allOfIt)
	defer cancel()
	if _, err := k.credentials.Retrieve(ctx); err != nil {
		if asked.Err() != nil {
			return asked.Err()
		}
		return k.at.fault(noCredentials, errors.New("none of AWS's sources of credentials had some"))
	}
	err := act(ctx)
	if err == nil {
		return nil
	}
	if asked.Err() != nil {
		return asked.Err()
	}
	var api smithy.APIError
	if errors.As(err, &api) {
		t, known := judgeAWS(api.ErrorCode())
		cause := errors.New("AWS answered with an error that is not known here")
		if known {
			cause = errors.New("AWS answered " + api.ErrorCode())
		}
		return k.at.fault(t, cause)
	}
	var refused *elsewhereError
	if errors.As(err, &refused) {
		return k.at.fault(elsewhere, nil)
	}
	return k.at.fault(unreachable, outbound.Clean(err))
}

func judgeAWS(code string) (t trouble, known bool) {
	switch code {
	case "AccessDeniedException", "AccessDenied":
		return denied, true
	case "NotFoundException", "InvalidArnException":
		return keyMissing, true
	case "DisabledException", "KMSInvalidStateException", "KeyUnavailableException", "InvalidKeyUsageException":
		return keyUnusable, true
	case "InvalidCiphertextException", "IncorrectKeyException":
		return foreign, true
	case "ThrottlingException", "Throttling", "LimitExceededException", "RequestLimitExceeded", "TooManyRequestsException":
		return throttled, true
	case "UnrecognizedClientException", "InvalidClientTokenId", "ExpiredTokenException", "InvalidSignatureException", "SignatureDoesNotMatch",
		"MissingAuthenticationTokenException", "MissingAuthenticationToken", "IncompleteSignature", "OptInRequired", "NotAuthorized":
		return unknownCaller, true
	case "DependencyTimeoutException", "KMSInternalException", "InternalFailure", "ServiceUnavailable", "ValidationException":
		return failed, true
	}
	return failed, false
}

// awsContext binds a wrapping to its root key. CloudTrail shows it, so that its readers see what was unwrapped.
func awsContext(rootKeyID string) map[string]string {
	return map[string]string{"signalbox-root-key": rootKeyID}
}

// Wrap encrypts. AWS gives its rotations no names, so that the version is the key's ARN.
func (k *awsKMS) Wrap(ctx context.Context, root secret.RootKey) (w Wrapped, err error) {
	err = k.ask(ctx, func(ctx context.Context) error {
		out, err := k.api.Encrypt(ctx, &kms.EncryptInput{KeyId: aws.String(k.at.key), Plaintext: root.Value().Bytes(), EncryptionContext: awsContext(root.ID())})
		if err != nil {
			return err
		}
		w = Wrapped{Blob: out.CiphertextBlob, KeyVersion: aws.ToString(out.KeyId)}
		return nil
	})
	if err == nil && (len(w.Blob) == 0 || !k.ours(w.KeyVersion)) {
		return Wrapped{}, k.at.fault(failed, errors.New("it wrapped with another key than it was asked to"))
	}
	return w, err
}

// ours reports whether an ARN can be that of the configured key. What an alias points to is AWS's to say.
func (k *awsKMS) ours(arn string) bool {
	part := strings.SplitN(arn, ":", 6)
	if len(part) != 6 || part[0] != "arn" || part[2] != "kms" || part[3] != k.at.region || !strings.HasPrefix(part[5], "key/") {
		return false
	}
	switch key := k.at.key; {
	case strings.HasPrefix(key, "alias/"), strings.Contains(key, ":alias/"):
		return true
	case strings.HasPrefix(key, "arn:"):
		return key == arn
	default:
		return part[5] == "key/"+key
	}
}

// Unwrap decrypts with the key that wrapped, which an alias may have left since.
func (k *awsKMS) Unwrap(ctx context.Context, rootKeyID string, w Wrapped) (secret.RootKey, error) {
	if !k.ours(w.KeyVersion) {
		return secret.RootKey{}, k.at.fault(foreign, errors.New("another key wrapped it, by what is written beside it"))
	}
	var raw secret.Value
	err := k.ask(ctx, func(ctx context.Context) error {
		out, err := k.api.Decrypt(ctx, &kms.DecryptInput{KeyId: aws.String(w.KeyVersion), CiphertextBlob: w.Blob, EncryptionContext: awsContext(rootKeyID)})
		if err != nil {
			return err
		}
		raw = secret.New(out.Plaintext)
		return nil
	})
	if err != nil {
		return secret.RootKey{}, err
	}
	return k.at.checked(raw, rootKeyID)
}

// Look describes the key.
func (k *awsKMS) Look(ctx context.Context) (key Key, err error) {
	err = k.ask(ctx, func(ctx context.Context) error {
		out, err := k.api.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String(k.at.key)})
		if err != nil {
			return err
		}
		m := out.KeyMetadata
		if m == nil {
			return nil
		}
		key = Key{Version: aws.ToString(m.Arn), State: Disabled}
		switch m.KeyState {
		case types.KeyStateEnabled:
			key.State = Enabled
		case types.KeyStatePendingDeletion, types.KeyStatePendingReplicaDeletion:
			key.State = Going
		}
		if m.KeyUsage != "" && m.KeyUsage != types.KeyUsageTypeEncryptDecrypt {
			key.State = Disabled
		}
		return nil
	})
	if err == nil && key.State == "" {
		return Key{}, k.at.fault(failed, errors.New("it tells nothing of the key"))
	}
	return key, err
}
