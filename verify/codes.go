// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify

import (
	"errors"
	"slices"

	"github.com/jurat-dev/jurat/evidence"
)

// Code is the class of a rejection, such as "E_MAGIC". Codes are stable: the
// vectors expect them and other programs may compare them.
type Code string

// Attestor is one of the five that must all say yes.
type Attestor string

// The attestors, in the order in which they are asked.
const (
	AttestorHardware   Attestor = "hardware"   // EK, AK, quote, log
	AttestorBoot       Attestor = "boot"       // PCR values, boot log
	AttestorCode       Attestor = "code"       // digests of what runs
	AttestorProvenance Attestor = "provenance" // who vouches for the digests
	AttestorContext    Attestor = "context"    // unit, user, container, the two looks
)

// What helps after a rejection.
const (
	RetryNow      = "now"          // a fresh challenge and fresh evidence
	RetryNever    = "never"        // the message is not evidence of this host
	RetryChange   = "after-change" // something on the host has to change first
	RetryOperator = "operator"     // somebody has to look at the host or the settings
)

// CodeInfo describes one code.
type CodeInfo struct {
	Code     Code
	Check    string // number of the check, V1 to V24
	Attestor Attestor
	Retry    string
	Meaning  string
}

const (
	codeFormat     Code = "E_FORMAT"
	codeIncomplete Code = "E_INCOMPLETE"
	codePolicy     Code = "E_POLICY"
	codeHost       Code = "E_HOST"
	codeChallenge  Code = "E_CHALLENGE"

	codeHostMismatch Code = "E_HOST_MISMATCH"
	codeNonce        Code = "E_NONCE"
	codeNonceExpired Code = "E_NONCE_EXPIRED"
	codeBroker       Code = "E_BROKER"

	codeAKForm  Code = "E_AK_FORM"
	codeAKAlg   Code = "E_AK_ALG"
	codeAKAttrs Code = "E_AK_ATTRS"
	codeAKPoint Code = "E_AK_POINT"
	codeAKName  Code = "E_AK_NAME"

	codeAttestSize   Code = "E_ATTEST_SIZE"
	codeMagic        Code = "E_MAGIC"
	codeType         Code = "E_TYPE"
	codeAttestForm   Code = "E_ATTEST_FORM"
	codeSigForm      Code = "E_SIG_FORM"
	codeSigAlg       Code = "E_SIG_ALG"
	codeSignature    Code = "E_SIGNATURE"
	codeSigner       Code = "E_SIGNER"
	codeExtraData    Code = "E_EXTRADATA"
	codePCRBank      Code = "E_PCR_BANK"
	codePCRSelection Code = "E_PCR_SELECTION"
	codePCRValues    Code = "E_PCR_VALUES"
	codePCRDigest    Code = "E_PCR_DIGEST"
	codeUnmeasured   Code = "E_PCR_UNMEASURED"
	codeBanks        Code = "E_BANKS"

	codeClockUnsafe    Code = "E_CLOCK_UNSAFE"
	codeClock          Code = "E_CLOCK"
	codeSequence       Code = "E_SEQUENCE"
	codeQuoteChain     Code = "E_QUOTE_CHAIN"
	codeResetRewind    Code = "E_RESET_REWIND"
	codeFirmware       Code = "E_FIRMWARE"
	codeFirmwareDenied Code = "E_FIRMWARE_DENIED"
	codeEpoch          Code = "E_EPOCH"
	codeEpochRewind    Code = "E_EPOCH_REWIND"

	codeAnchor        Code = "E_ANCHOR"
	codeRegister      Code = "E_REGISTER"
	codeRegisterName  Code = "E_REGISTER_NAME"
	codeRegisterTail  Code = "E_REGISTER_TAIL"
	codeRegisterValue Code = "E_REGISTER_VALUE"
	codeLatch         Code = "E_LATCH"
	codeTier          Code = "E_TIER"

	codeMix          Code = "E_MIX"
	codeIMA          Code = "E_IMA"
	codeCkptRewind   Code = "E_CKPT_REWIND"
	codeCkptFork     Code = "E_CKPT_FORK"
	codeCkptChain    Code = "E_CKPT_CHAIN"
	codeCkptCount    Code = "E_CKPT_COUNT"
	codeConsistency  Code = "E_CONSISTENCY"
	codeInclusion    Code = "E_INCLUSION"
	codeStart        Code = "E_START"
	codeSubject      Code = "E_SUBJECT"
	codeBootLog      Code = "E_BOOT_LOG"
	codeBootForm     Code = "E_BOOT_FORM"
	codeBootReplay   Code = "E_BOOT_REPLAY"
	codeOSLog        Code = "E_OS_LOG"
	codeIMAForm      Code = "E_IMA_FORM"
	codeIMAReplay    Code = "E_IMA_REPLAY"
	codeIMAPartial   Code = "E_IMA_PARTIAL"
	codeIMAViolation Code = "E_IMA_VIOLATION"
	codeIMAAggregate Code = "E_IMA_AGGREGATE"
)

// codeTable is in the order in which [Bundle] looks.
var codeTable = [...]CodeInfo{
	{codeFormat, "V1", AttestorHardware, RetryNever, "the bytes are not a bundle in canonical form within its limits"},
	{codePolicy, "V17", AttestorHardware, RetryOperator, "the verifier's policy is empty, unsound or names a PCR that anybody can reset"},
	{codeChallenge, "V20", AttestorHardware, RetryNow, "the verifier's challenge is missing or too weak"},
	{codeHost, "V20", AttestorHardware, RetryOperator, "the verifier's record of the host is incomplete"},
	{codeAKForm, "V7", AttestorHardware, RetryOperator, "the attestation key's public area is malformed or not canonical"},
	{codeAKAlg, "V7", AttestorHardware, RetryOperator, "the attestation key is not ECC P-256 with ECDSA and SHA-256"},
	{codeAKAttrs, "V7", AttestorHardware, RetryOperator, "the attestation key's attributes would let it sign what the TPM did not say"},
	{codeAKPoint, "V7", AttestorHardware, RetryOperator, "the attestation key's point is not on its curve"},
	{codeAKName, "V6", AttestorHardware, RetryOperator, "the name pinned at enrolment is not the name of the pinned public area"},
	{codeIncomplete, "V20", AttestorHardware, RetryNever, "a part of the bundle is missing"},
	{codeHostMismatch, "V22", AttestorHardware, RetryNever, "the bundle calls itself another host than the one that was challenged"},
	{codeNonce, "V12", AttestorHardware, RetryNow, "the bundle or a request answers another challenge"},
	{codeNonceExpired, "V12", AttestorHardware, RetryNow, "the challenge expired before the evidence came"},
	{codeAttestSize, "V1", AttestorHardware, RetryNever, "the quote's TPMS_ATTEST is empty or too large"},
	{codeMagic, "V2", AttestorHardware, RetryNever, "the signed structure does not begin with TPM_GENERATED_VALUE, so no TPM made it"},
	{codeType, "V3", AttestorHardware, RetryNever, "the signed structure is not a quote"},
	{codeAttestForm, "V4", AttestorHardware, RetryNever, "the signed structure is truncated, has trailing bytes or is not canonical"},
	{codeSigForm, "V4", AttestorHardware, RetryNever, "the signature is malformed, has trailing bytes or is not canonical"},
	{codeSigAlg, "V5", AttestorHardware, RetryNever, "the signature names another algorithm or hash than the enrolled key has"},
	{codeSignature, "V6", AttestorHardware, RetryNever, "the signature is not by the enrolled key"},
	{codeSigner, "V8", AttestorHardware, RetryNever, "the qualified signer is not the enrolled key as primary of the endorsement hierarchy"},
	{codeExtraData, "V12", AttestorHardware, RetryNever, "the quote was not made over this header"},
	{codePCRBank, "V13", AttestorHardware, RetryChange, "the quote covers not exactly one SHA-256 bank"},
	{codePCRSelection, "V13", AttestorHardware, RetryChange, "the quote covers other PCRs than the policy demands"},
	{codePCRValues, "V13", AttestorHardware, RetryNever, "the PCR values are not exactly those of the signed selection"},
	{codePCRDigest, "V14", AttestorHardware, RetryNow, "the PCR values do not have the digest that was signed"},
	{codeMix, "V18", AttestorHardware, RetryNever, "parts of the bundle do not belong together"},
	{codeIMA, "V18", AttestorBoot, RetryNever, "the IMA parts of the bundle contradict each other"},
	{codeBanks, "V15", AttestorHardware, RetryOperator, "the TPM's word on its active PCR banks is missing or not signed, or a bank is active that the boot log does not cover"},
	{codeFirmwareDenied, "V24", AttestorHardware, RetryOperator, "the policy does not believe this firmware of the TPM"},
	{codeEpochRewind, "V10", AttestorHardware, RetryOperator, "the epoch is older than the last known one"},
	{codeResetRewind, "V10", AttestorHardware, RetryOperator, "the TPM counts fewer resets or restarts than before: cleared or rolled back"},
	{codeFirmware, "V9", AttestorHardware, RetryOperator, "the TPM's firmware version changed without a reset"},
	{codeEpoch, "V10", AttestorHardware, RetryChange, "the TPM was reset or restarted, or the machine booted, inside one epoch"},
	{codeClock, "V11", AttestorHardware, RetryOperator, "the TPM's clock went back without a reset"},
	{codeClockUnsafe, "V11", AttestorHardware, RetryChange, "the TPM's clock is not safe, and the time of grace after its reset is over"},
	{codeSequence, "V11", AttestorHardware, RetryNow, "the quote is not newer than the last one accepted"},
	{codeQuoteChain, "V11", AttestorHardware, RetryNow, "the quote after the last one accepted does not name it as its predecessor"},
	{codeTier, "V18", AttestorHardware, RetryOperator, "the policy does not accept the sensor's tier"},
	{codeAnchor, "V18", AttestorHardware, RetryOperator, "the anchor mode is unknown, or the policy does not accept it"},
	{codeRegister, "V18", AttestorHardware, RetryNever, "anchor mode and register contradict each other"},
	{codeLatch, "V18", AttestorHardware, RetryOperator, "the PCR that gates the register is not the policy's, or was not closed in this boot by this register"},
	{codeRegisterName, "V18", AttestorHardware, RetryNever, "the register is not an index that only the latch let be written first"},
	{codeRegisterTail, "V18", AttestorHardware, RetryNow, "the checkpoints shown do not follow those known to be in the register, or do not end with the quoted one"},
	{codeRegisterValue, "V18", AttestorHardware, RetryOperator, "the register does not hold the checkpoints shown: the log was rewound, or somebody else wrote"},
	{codeCkptRewind, "V18", AttestorHardware, RetryOperator, "the log is shorter or its checkpoint older than the last known one"},
	{codeCkptFork, "V18", AttestorHardware, RetryOperator, "two checkpoints have the same number"},
	{codeCkptChain, "V18", AttestorHardware, RetryOperator, "the checkpoint after the last known one does not name it as its predecessor"},
	{codeCkptCount, "V18", AttestorHardware, RetryOperator, "the counts of losses or taints went down inside an epoch"},
	{codeConsistency, "V18", AttestorHardware, RetryOperator, "the log is not proved to begin with the one last known"},
	{codeInclusion, "V18", AttestorHardware, RetryNever, "a request or an entry is not proved to be in its tree"},
	{codeStart, "V18", AttestorHardware, RetryNever, "the entry that opened the epoch is missing, ambiguous, changed or contradicts the header"},
	{codeBootLog, "V18", AttestorBoot, RetryNow, "the boot event log is missing, tainted or not the one that was quoted"},
	{codeBootForm, "V1", AttestorBoot, RetryOperator, "the boot event log is malformed"},
	{codeOSLog, "V18", AttestorBoot, RetryNow, "the operating system's log is malformed or not the one that was quoted"},
	{codeUnmeasured, "V16", AttestorBoot, RetryOperator, "nothing was measured into a PCR that the policy wants measured"},
	{codeBootReplay, "V16", AttestorBoot, RetryOperator, "the events of the boot log do not make the quoted value of a PCR"},
	{codeIMAForm, "V1", AttestorBoot, RetryOperator, "the IMA list is malformed"},
	{codeIMAAggregate, "V18", AttestorBoot, RetryOperator, "the IMA list begins with another boot than the quoted one"},
	{codeIMAViolation, "V18", AttestorBoot, RetryOperator, "a file in the IMA list changed while it was measured or in use"},
	{codeIMAPartial, "V18", AttestorBoot, RetryNow, "the IMA list did not fit into one bundle: what came is kept, the rest is wanted"},
	{codeIMAReplay, "V18", AttestorBoot, RetryOperator, "no prefix of the IMA list makes the quoted PCR 10"},
	{codeBroker, "V12", AttestorHardware, RetryNever, "a request was made for another broker"},
	{codeSubject, "V18", AttestorContext, RetryNow, "the process that asks is not the one that was measured in this epoch"},
}

// Codes lists every code there is, in the order in which [Bundle] looks.
func Codes() []CodeInfo { return slices.Clone(codeTable[:]) }

// Rejection says which check failed, where, and what was there instead. It is
// the only error that [Bundle], [NewHost] and [CheckAK] return.
type Rejection struct {
	Code     Code     `json:"code"`
	Check    string   `json:"check"`
	Attestor Attestor `json:"attestor"`
	Retry    string   `json:"retry"`
	Place    string   `json:"place"`
	Expected string   `json:"expected"`
	Observed string   `json:"observed"`

	progress *IMAUpdate
}

// Progress is what a bundle added to the host's IMA list although it was
// refused with E_IMA_PARTIAL, for the broker to keep until the rest has come. It
// is safe to keep from anybody: a later quote has to bear all of it out.
func (r *Rejection) Progress() (IMAUpdate, bool) {
	if r.progress == nil {
		return IMAUpdate{}, false
	}
	return *r.progress, true
}

// Error states the fact and the place in one line.
func (r *Rejection) Error() string {
	return string(r.Code) + ": " + r.Place + ": " + r.Observed + ", want " + r.Expected
}

// reject builds a rejection. What comes from the bundle is cleaned for people
// and logs.
func reject(code Code, place, expected, observed string) *Rejection {
	r := &Rejection{Code: code, Attestor: AttestorHardware, Retry: RetryNever, Place: place, Expected: clean(expected), Observed: clean(observed)}
	for _, info := range codeTable {
		if info.Code == code {
			r.Check, r.Attestor, r.Retry = info.Check, info.Attestor, info.Retry
		}
	}
	return r
}

// Malformed turns the error of [evidence.Parse] into a rejection, so that a
// broker has one kind of answer for everything that is wrong with a bundle.
func Malformed(err error) *Rejection {
	var format *evidence.FormatError
	if errors.As(err, &format) {
		return reject(codeFormat, format.Place, "canonical form (spec/evidence.md)", format.Detail)
	}
	return reject(codeFormat, "bundle", "canonical form (spec/evidence.md)", err.Error())
}
