package store

// Action is what an audit event tells of. The list is closed: an event with another action is refused.
type Action string

// The actions.
const (
	AdminInit           Action = "admin.init"
	AdminKeyring        Action = "admin.keyring"
	AdminRekey          Action = "admin.rekey"
	AdminRekeyed        Action = "admin.rekeyed"
	AdminRootKeyWrap    Action = "admin.root_key_wrap"
	AdminRootKeyUnwrap  Action = "admin.root_key_unwrap"
	AdminRootKeyForget  Action = "admin.root_key_forget"
	AdminRootKeyAdd     Action = "admin.root_key_add"
	AdminRootKeyChange  Action = "admin.root_key_change"
	AdminRootKeyAbandon Action = "admin.root_key_abandon"
	UsageRebuild        Action = "usage.rebuild"
	AdminSeal           Action = "admin.seal"
	AdminUnseal         Action = "admin.unseal"
	AdminStart          Action = "admin.start"
	AdminStop           Action = "admin.stop"
	AdminBackup         Action = "admin.backup"
	AdminRestore        Action = "admin.restore"
	AuditSigner         Action = "audit.signer"
	AuditRead           Action = "audit.read"
	AuditExport         Action = "audit.export"
	SinkCreate          Action = "audit.sink_create"
	SinkUpdate          Action = "audit.sink_update"
	SinkDelete          Action = "audit.sink_delete"
	SinkTest            Action = "audit.sink_test"
	CredentialCreate    Action = "credential.create"
	CredentialList      Action = "credential.list"
	CredentialView      Action = "credential.view"
	CredentialUpdate    Action = "credential.update"
	CredentialRotate    Action = "credential.rotate"
	CredentialDelete    Action = "credential.delete"
	CredentialReveal    Action = "credential.reveal"
	CredentialTest      Action = "credential.test"
	CredentialPause     Action = "credential.pause"
	CredentialDrain     Action = "credential.drain"
	CredentialResume    Action = "credential.resume"
	CredentialRefused   Action = "credential.refused"
	CredentialCooling   Action = "credential.cooling"
	LimitNear           Action = "limit.near"
	LimitReached        Action = "limit.reached"
	CredentialGrant     Action = "credential.grant"
	CredentialImport    Action = "credential.import"
	CredentialCompare   Action = "credential.compare"
	CredentialExport    Action = "credential.export"
	CredentialReminder  Action = "credential.reminder"
	ClientCreate        Action = "client.create"
	ClientUpdate        Action = "client.update"
	ClientDelete        Action = "client.delete"

	ClientServiceCreate  Action = "service.create" // a client's application; service accounts are identity's
	ClientServiceUpdate  Action = "service.update"
	ClientServiceDelete  Action = "service.delete"
	InfrastructureCreate Action = "infrastructure.create"
	InfrastructureUpdate Action = "infrastructure.update"
	InfrastructureDelete Action = "infrastructure.delete"

	IncidentOpen    Action = "incident.open"
	IncidentUpdate  Action = "incident.update"
	IncidentAdvance Action = "incident.advance"
	IncidentNote    Action = "incident.note"
	IncidentRepeat  Action = "incident.repeat"
	IncidentContain Action = "incident.contain"
	IncidentDelete  Action = "incident.delete"
	IncidentRefused Action = "incident.refused"

	OAuthRefresh       Action = "oauth.refresh"
	OAuthRecovery      Action = "oauth.recovery"
	OAuthNeedsLogin    Action = "oauth.needs_login"
	OAuthForce         Action = "oauth.force"
	LeaseGranted       Action = "lease.granted"
	LeaseOutcome       Action = "lease.outcome"
	BatchCreate        Action = "batch.create"
	BatchDelete        Action = "batch.delete"
	FileCreate         Action = "file.create"
	FileDelete         Action = "file.delete"
	KeyIssue           Action = "key.issue"
	KeyUpdate          Action = "key.update"
	KeyReplace         Action = "key.replace"
	KeyRevoke          Action = "key.revoke"
	KeyPurge           Action = "key.purge"
	TrainCreate        Action = "train.create"
	TrainUpdate        Action = "train.update"
	TrainDelete        Action = "train.delete"
	TrainLogging       Action = "train.request_logging"
	ContentRead        Action = "content.read"
	ContentPurge       Action = "content.purge"
	TrainLink          Action = "train.link"
	TrainRelink        Action = "train.relink"
	TrainUnlink        Action = "train.unlink"
	TrainMemberAdd     Action = "train.member.add"
	TrainMemberChange  Action = "train.member.change"
	TrainMemberRemove  Action = "train.member.remove"
	TrainRefused       Action = "train.refused"
	IdentitySetup      Action = "identity.setup"
	IdentityLogin      Action = "identity.login"
	IdentityFailed     Action = "identity.failed"
	IdentityRefused    Action = "identity.refused"
	SSOCreate          Action = "identity.sso_create"
	SSOUpdate          Action = "identity.sso_update"
	SSODelete          Action = "identity.sso_delete"
	SSOTest            Action = "identity.sso_test"
	SSOLink            Action = "identity.sso_link"
	SSORefused         Action = "identity.sso_refused"
	TokenIssue         Action = "identity.token_issue"
	TokenRevoke        Action = "identity.token_revoke"
	IdentityTokens     Action = "identity.tokens"
	IdentityCLI        Action = "identity.command_line"
	SigningKey         Action = "identity.signing_key"
	IssuerCreate       Action = "identity.issuer_create"
	IssuerUpdate       Action = "identity.issuer_update"
	IssuerDelete       Action = "identity.issuer_delete"
	UserCreate         Action = "identity.user_create"
	ChannelCreate      Action = "notify.channel_create"
	ChannelUpdate      Action = "notify.channel_update"
	ChannelDelete      Action = "notify.channel_delete"
	NotifyTest         Action = "notify.test"
	NotifyFailed       Action = "notify.failed"
	NotifyRefused      Action = "notify.refused"
	GroupCreate        Action = "identity.group_create"
	GroupUpdate        Action = "identity.group_update"
	GroupDelete        Action = "identity.group_delete"
	GroupJoin          Action = "identity.group_join"
	GroupLeave         Action = "identity.group_leave"
	ServiceCreate      Action = "identity.service_account_create"
	ServiceUpdate      Action = "identity.service_account_update"
	IdentityLoginBegun Action = "identity.login_begun"
	IdentityLogout     Action = "identity.logout"
	IdentitySessionEnd Action = "identity.session_end"
	IdentityStepUp     Action = "identity.step_up"
	UserUpdate         Action = "identity.user_update"
	UserRole           Action = "identity.user_role"
	UserDeactivate     Action = "identity.user_deactivate"
	UserActivate       Action = "identity.user_activate"
	UserInvite         Action = "identity.user_invite"
	PasswordReset      Action = "identity.password_reset"
	PasswordSet        Action = "identity.password_set"
	PasswordChange     Action = "identity.password_change"
	FactorOffer        Action = "identity.factor_offer"
	FactorEnrol        Action = "identity.factor_enrol"
	FactorRename       Action = "identity.factor_rename"
	FactorRemove       Action = "identity.factor_remove"
	FactorReset        Action = "identity.factor_reset"
	FactorPolicy       Action = "identity.factor_policy"
	FactorSuspect      Action = "identity.factor_suspect"
	RecoveryMake       Action = "identity.recovery_make"
	RecoveryUse        Action = "identity.recovery_use"
	FilterSave         Action = "identity.filter_save"
	FilterRename       Action = "identity.filter_rename"
	FilterDelete       Action = "identity.filter_delete"

	OAuthProviderAdd    Action = "oauth.provider_add"
	OAuthProviderChange Action = "oauth.provider_change"
	OAuthProviderDelete Action = "oauth.provider_delete"
	OAuthBegin          Action = "oauth.begin"
	OAuthLogin          Action = "oauth.login"
	OAuthRevoke         Action = "oauth.revoke"
	OAuthRefused        Action = "oauth.refused"
	MCPServerCreate     Action = "mcp.server_create"
	MCPServerUpdate     Action = "mcp.server_update"
	MCPServerDelete     Action = "mcp.server_delete"
	MCPDeposit          Action = "mcp.deposit"
	MCPDisconnect       Action = "mcp.disconnect"
	MCPRefused          Action = "mcp.refused"
)

// ActionRow explains one action for the reference.
type ActionRow struct {
	Action  Action
	Meaning string
}

// Actions returns the closed list with what each means.
func Actions() []ActionRow { return actionRows[:] }

var actionRows = [...]ActionRow{
	{AdminInit, "the database was initialised from the command line"},
	{AdminKeyring, "a keyring or a data key was made"},
	{AdminRekey, "a change of the data key was begun, or what does not open was given up; the event names the new key"},
	{AdminRekeyed, "a change of the data key ended: everything is sealed under the new key, and the old one was destroyed; the event counts what was moved"},
	{AdminRootKeyWrap, "the root key was wrapped by a key management service: at the first start, to move it there, or anew under a newer version of the key (rewrapped); the event names keeper and version"},
	{AdminRootKeyUnwrap, "the root key was taken back from a key management service into a file, from the command line"},
	{AdminRootKeyForget, "a wrapping of the root key was removed, so that the key management service that made it opens this database no more"},
	{AdminRootKeyAdd, "a change of the root key was begun, from the command line: a new root key opens the keyring beside the present one; the event names both"},
	{AdminRootKeyChange, "a change of the root key ended: the new one alone opens the keyring, and the one before (dropped) opens nothing any more"},
	{AdminRootKeyAbandon, "a change of the root key was taken back: the present one alone opens the keyring, and the new one (dropped) opens nothing"},
	{UsageRebuild, "the sums of usage were dropped to be made anew from the audit log, or that was under way or refused; the event says of how many records"},
	{AdminSeal, "all servers of the database were sealed, with the reason given: they lend and open nothing and hold no key; or that was refused"},
	{AdminUnseal, "the seal was lifted, from the command line of a machine that has the root key; the event names the machine and since when it was sealed"},
	{AdminStart, "an instance started"},
	{AdminStop, "an instance stopped in order"},
	{AdminBackup, "the whole database was written into a sealed backup: pending before any of it is read, then ok with its time and size, or failed"},
	{AdminRestore, "this database is what a backup held: recorded by the first start after a restore, or a move, with the backup's id and time"},
	{AuditSigner, "the key that signs checkpoints was made"},
	{AuditRead, "audit records were read or searched"},
	{AuditExport, "audit records were exported: one event before the first record leaves, one at the end with how many left and whether that was all"},
	{SinkCreate, "a sink was made, to which the audit log is sent; the event names its destination and the leaf that it begins with"},
	{SinkUpdate, "an audit sink changed; the event names the fields"},
	{SinkDelete, "an audit sink was deleted; the event names the leaf up to which it had the log"},
	{SinkTest, "a test message was sent to an audit sink: pending before it is sent, ok or failed after"},
	{CredentialCreate, "a credential was stored"},
	{CredentialList, "credentials were listed; one event a list, secrets are never in it"},
	{CredentialView, "a credential's metadata was read"},
	{CredentialUpdate, "a credential's metadata changed; the event names the fields"},
	{CredentialRotate, "a credential got a new version of its secret"},
	{CredentialDelete, "a credential was deleted and its sealed material destroyed"},
	{CredentialReveal, "a secret field was decrypted for a person or a token, with the reason given"},
	{CredentialTest, "a credential was tried where it is used: pending before anything leaves, then ok, or failed with the outcome (refused, unauthorized, unreachable, tls_failed, unsupported, forbidden_address)"},
	{CredentialPause, "an account was paused, with the reason given: it is lent to nobody, and running requests were cut; the event names what it was before"},
	{CredentialDrain, "an account was drained, with the reason given: it is lent to no new request, and running ones finish; the event names what it was before"},
	{CredentialResume, "an account that was paused or drained is lent again; the event names what it was before"},
	{CredentialRefused, "an act on a credential, or on a client, a service or infrastructure, was refused"},
	{CredentialCooling, "an account is not used for a while after a failure upstream"},
	{LimitNear, "a train, a client key or a person has used 80 % of a limit or a budget; once an hour, a day or a month at most, by the kind of limit"},
	{LimitReached, "a train, a client key or a person has used up a limit or a budget; likewise"},
	{CredentialGrant, "who may use, reveal and manage a credential, or what a client or service has, changed"},
	{CredentialImport, "files of another program, or an archive, were imported, or tried with dry_run; the event has the numbers, and each credential and key one of its own"},
	{CredentialCompare, "an import told its caller that this stored credential, which they may reveal, has the same secret as one in the file"},
	{CredentialExport, "credentials were exported into an encrypted archive: one event before the first leaves, one at the end with how many did and whether that was all; each has a reveal of its own"},
	{CredentialReminder, "people were reminded that a credential expires or is to be rotated; the event names the date and the step in days"},
	{ClientCreate, "a client was stored"},
	{ClientUpdate, "a client changed; the event names the fields"},
	{ClientDelete, "a client that nothing belonged to was deleted, with what was granted on it"},
	{ClientServiceCreate, "a service was stored"},
	{ClientServiceUpdate, "a service changed; the event names the fields"},
	{ClientServiceDelete, "a service that nothing belonged to was deleted, with what was granted on it"},
	{InfrastructureCreate, "infrastructure was stored"},
	{InfrastructureUpdate, "infrastructure changed; the event names the fields"},
	{InfrastructureDelete, "infrastructure that nothing belonged to was deleted"},
	{IncidentOpen, "an incident was opened, by somebody or by a detector; the event names its type, its severity and what it touches, never what somebody wrote"},
	{IncidentUpdate, "an incident changed; the event names the fields"},
	{IncidentAdvance, "an incident moved to another status; the event names both"},
	{IncidentNote, "somebody wrote into the timeline of an incident"},
	{IncidentRepeat, "a detector reported again what an open incident of its is about"},
	{IncidentContain, "an incident was contained: the event names the scope and how many of which acts, each of which has an event of its own in the same transaction"},
	{IncidentDelete, "an incident was deleted with its timeline"},
	{IncidentRefused, "an act on an incident was refused"},
	{OAuthRefresh, "a call that refreshes an access token: pending before it is made, then ok with the new version, or failed with what came back; recovery says that an earlier call may have spent the token"},
	{OAuthRecovery, "the holder of the right to refresh said nothing in time, so that its refresh token may be spent; the reason says why"},
	{OAuthNeedsLogin, "a provider refuses the refresh token of a connection, so that a person must log in again"},
	{OAuthForce, "a person asked for a refresh at once; of a credential whose containment replaces its tokens: pending with that act, ok or failed after"},
	{BatchCreate, "a train made a batch of messages at an upstream; it belongs to that train"},
	{BatchDelete, "a train deleted a batch of its own at an upstream, or it was found to be gone there"},
	{FileCreate, "a train uploaded a file to an upstream; it belongs to that train"},
	{FileDelete, "a train deleted a file of its own at an upstream, or it was found to be gone there"},
	{LeaseGranted, "the intent to use a credential for one attempt of one request, or to ask an MCP server; durable before the credential leaves"},
	{LeaseOutcome, "what became of that attempt; unsent where for certain nothing of the request reached the upstream"},
	{KeyIssue, "a client key was issued"},
	{KeyUpdate, "a client key's name, expiry or limits changed"},
	{KeyReplace, "a client key was issued to replace another, which stays valid for an overlap"},
	{KeyRevoke, "a client key was revoked; the reason says why, where that was not asked for (session_ended, or what took its maker's only way to a train that is private or, with the role member, to any: left_train, left_group, group_deleted, deactivated, role_changed; made_by says who that is)"},
	{KeyPurge, "a revoked client key was removed from the list"},
	{TrainCreate, "a train was made"},
	{TrainUpdate, "a train's settings changed"},
	{TrainDelete, "a train was deleted"},
	{TrainLogging, "it was set whether a train keeps what its agents are asked and answer, how much and for how long; the event names the fields"},
	{ContentRead, "what an agent was asked and answered was read; the event names the request"},
	{ContentPurge, "what a train had kept of its requests was deleted; the event says of how many"},
	{TrainLink, "a credential was linked to a train"},
	{TrainRelink, "a link's alias or priority changed"},
	{TrainUnlink, "a credential was unlinked from a train"},
	{TrainMemberAdd, "a person or a group became an owner or a member of a train"},
	{TrainMemberChange, "the role of a train's member changed"},
	{TrainMemberRemove, "a person or a group was taken from a train's members"},
	{TrainRefused, "an act on a train or its keys was refused"},
	{IdentitySetup, "a one-time set-up link was made or used"},
	{IdentityLogin, "somebody signed in; the event names the session and what they proved themselves with"},
	{IdentityLoginBegun, "the password of a sign-in was right, and a second factor is demanded"},
	{IdentityLogout, "somebody signed out"},
	{IdentitySessionEnd, "a session was ended; the reason says why (revoked, deactivated, role_changed, password_changed, password_reset, factor_enrolled, factor_demanded, factors_reset, too_many, refresh_reused, canary)"},
	{IdentityStepUp, "a person proved anew who they are, or failed to"},
	{IdentityFailed, "authentication failed; one event a source and minute, with the count"},
	{IdentityRefused, "an act on people, groups, service accounts or tokens was refused"},
	{TokenIssue, "a token of a person or a service account was issued"},
	{TokenRevoke, "a token of a person or a service account was revoked"},
	{IdentityCLI, "a person agreed in the browser that a command line acts as them (step agreed; port 0 is a code to be pasted), or that program exchanged the code for a session of its own (step exchange); refused with the reason verifier, expired, session or second_factor"},
	{IdentityTokens, "a program's session got an access token and a refresh token; refused, with the reason reused, when a refresh token came a second time"},
	{SigningKey, "a key that signs access tokens was made, became active, was retired or was removed"},
	{IssuerCreate, "an outside issuer was added, whose tokens are accepted from then on"},
	{IssuerUpdate, "an outside issuer was changed; the event names the fields"},
	{IssuerDelete, "an outside issuer was deleted; its tokens are refused from then on"},
	{SSOCreate, "a single sign-on provider was added"},
	{SSOUpdate, "a single sign-on provider was changed; the event names the fields"},
	{SSODelete, "a single sign-on provider was deleted; nobody signs in with it from then on"},
	{SSOTest, "a single sign-on provider was asked what it is; the event names the problem, if there is one"},
	{SSOLink, "a person was linked to who they are at a single sign-on provider"},
	{SSORefused, "a provider, or a trusted proxy, made somebody known who may not enter; the reason says why (deactivated, no_person, not_linked, email_unverified, email_invalid, domain_not_allowed, groups_missing, no_role, last_administrator, somebody_else)"},
	{UserCreate, "a person was added"},
	{ChannelCreate, "a notification channel was made"},
	{ChannelUpdate, "a notification channel changed; the event names the fields"},
	{ChannelDelete, "a notification channel was deleted, with what waited for it"},
	{NotifyTest, "a test message was sent through a channel: pending before it is sent, ok or failed after"},
	{NotifyFailed, "a notification could not be delivered and is not tried any more"},
	{NotifyRefused, "an act on notification channels was refused"},
	{GroupCreate, "a group of people was made"},
	{GroupUpdate, "a group's name or description changed"},
	{GroupDelete, "a group was deleted, and with it what was granted to it; keys_ended counts the client keys that ended by it"},
	{GroupJoin, "a person became a member of a group"},
	{GroupLeave, "a person is no longer a member of a group; keys_ended counts the client keys that ended by it"},
	{ServiceCreate, "a service account was made"},
	{ServiceUpdate, "a service account changed; deactivated, its tokens work nowhere"},
	{UserUpdate, "a person's name or e-mail address changed; the event names the fields"},
	{UserRole, "a person got another role; their sessions ended, and client keys of private trains to which the role before was their only way"},
	{UserDeactivate, "a person was deactivated; their sessions and tokens ended, and the client keys that they made on private trains and, with the role member, on trains that they are a member of"},
	{UserActivate, "a person was activated again"},
	{UserInvite, "a one-time link was made by which a new person sets their password"},
	{PasswordReset, "a person's password was voided and a one-time link made by which they set a new one"},
	{PasswordSet, "a person set their password with a one-time link"},
	{PasswordChange, "a person changed their own password, or failed to"},
	{FactorOffer, "a person was shown the secret of an authenticator app, which counts once a code confirms it"},
	{FactorEnrol, "a person enrolled a second factor, or failed to"},
	{FactorRename, "a person gave a passkey another name"},
	{FactorRemove, "a person removed a second factor"},
	{FactorReset, "an administrator removed all second factors of a person; their sessions ended"},
	{FactorPolicy, "the roles whose people must have a second factor were set"},
	{FactorSuspect, "a passkey's signature counter went backwards, as that of a copy does; it was refused"},
	{RecoveryMake, "a person was shown a new set of recovery codes; the old ones are void"},
	{RecoveryUse, "a recovery code was used in the place of a second factor"},
	{FilterSave, "a person kept the filter of a list under a name; the event names the list, never what the filter looks for"},
	{FilterRename, "a person gave a filter that they keep another name"},
	{FilterDelete, "a person deleted a filter that they kept"},
	{OAuthProviderAdd, "an OAuth provider was added"},
	{OAuthProviderChange, "an OAuth provider was changed; the event names the fields, and for one of consumer subscriptions that was switched on, that its terms were read"},
	{OAuthProviderDelete, "what was stored of an OAuth provider was deleted"},
	{OAuthBegin, "a login at an OAuth provider was begun: for a credential that gets new tokens, or at a provider for a new one; pending before the provider is asked for a device code or with client credentials"},
	{OAuthLogin, "a login at an OAuth provider came back: pending before its code is exchanged, ok with the credential that got the tokens, failed, or refused with the reason (unknown, used, expired, other_session, provider_changed, issuer)"},
	{OAuthRevoke, "the grant of a credential that was deleted, or contained in an incident, was revoked at its provider: pending with that act, ok or failed after"},
	{OAuthRefused, "an act on OAuth providers was refused"},
	{MCPServerCreate, "an MCP server was added"},
	{MCPServerUpdate, "an MCP server was changed; the event names the fields"},
	{MCPServerDelete, "an MCP server was deleted; connections to it stay, and lead nowhere"},
	{MCPDeposit, "somebody deposited what refreshes their tokens for an MCP server: status tells that a connection which somebody else has stopped stays so"},
	{MCPDisconnect, "a connection to an MCP server was deleted with its tokens"},
	{MCPRefused, "an act on MCP servers or connections was refused"},
}

func (a Action) known() bool {
	for i := range actionRows {
		if actionRows[i].Action == a {
			return true
		}
	}
	return false
}
