// SPDX-License-Identifier: Apache-2.0

//! The functions that Kubernetes adds to CEL: URLs, IP addresses, networks, quantities, regular expressions. Registered once by `rules`.
//!
//! <https://kubernetes.io/docs/reference/using-api/cel/#kubernetes-cel-libraries>. A URL, an address, a network or a quantity is represented by its canonical
//! text, so that two of them are equal when they mean the same.

use std::cmp::Ordering;
use std::net::IpAddr;

use cel::common::types::{CelBool, CelDouble, CelInt, CelList, CelString};
use cel::common::value::Val;
use cel::{DeclarationError, Env, ExecutionError};
use ipnet::IpNet;

/// Nanos in one: quantities have no finer parts.
const NANO: i128 = 1_000_000_000;
/// Most memory of a compiled pattern that a rule brings.
const PATTERN_BYTES: usize = 1 << 20;

/// Adds all of them.
pub(super) fn extension(env: &mut Env) -> Result<(), DeclarationError> {
    urls(env)?;
    addresses(env)?;
    quantities(env)?;
    cel::add_member_overload!(env, fn find: (CelString, CelString) -> Result<CelString>)?;
    cel::add_member_overload!(env, fn find_all: (CelString, CelString) -> Result<CelList>)?;
    cel::add_member_overload!(env, fn find_some: (CelString, CelString, CelInt) -> Result<CelList>, name = "findAll")?;
    Ok(())
}

fn urls(env: &mut Env) -> Result<(), DeclarationError> {
    cel::add_overload!(env, fn is_url: (CelString) -> CelBool, name = "isURL")?;
    cel::add_overload!(env, fn url: (CelString) -> Result<CelString>)?;
    cel::add_member_overload!(env, fn get_scheme: (CelString) -> CelString)?;
    cel::add_member_overload!(env, fn get_host: (CelString) -> CelString)?;
    cel::add_member_overload!(env, fn get_hostname: (CelString) -> CelString)?;
    cel::add_member_overload!(env, fn get_port: (CelString) -> CelString)?;
    cel::add_member_overload!(env, fn get_escaped_path: (CelString) -> CelString)
}

fn addresses(env: &mut Env) -> Result<(), DeclarationError> {
    cel::add_overload!(env, fn is_ip: (CelString) -> CelBool, name = "isIP")?;
    cel::add_overload!(env, fn ip: (CelString) -> Result<CelString>)?;
    cel::add_overload!(env, fn is_canonical: (CelString) -> Result<CelBool>, name = "ip.isCanonical")?;
    cel::add_member_overload!(env, fn family: (CelString) -> Result<CelInt>)?;
    cel::add_member_overload!(env, fn is_unspecified: (CelString) -> Result<CelBool>)?;
    cel::add_member_overload!(env, fn is_loopback: (CelString) -> Result<CelBool>)?;
    cel::add_member_overload!(env, fn is_link_local_unicast: (CelString) -> Result<CelBool>)?;
    cel::add_member_overload!(env, fn is_link_local_multicast: (CelString) -> Result<CelBool>)?;
    cel::add_member_overload!(env, fn is_global_unicast: (CelString) -> Result<CelBool>)?;
    cel::add_overload!(env, fn is_cidr: (CelString) -> CelBool, name = "isCIDR")?;
    cel::add_overload!(env, fn cidr: (CelString) -> Result<CelString>)?;
    cel::add_member_overload!(env, fn contains_ip: (CelString, CelString) -> Result<CelBool>, name = "containsIP")?;
    cel::add_member_overload!(env, fn contains_cidr: (CelString, CelString) -> Result<CelBool>, name = "containsCIDR")?;
    cel::add_member_overload!(env, fn address_of: (CelString) -> Result<CelString>, name = "ip")?;
    cel::add_member_overload!(env, fn masked: (CelString) -> Result<CelString>)?;
    cel::add_member_overload!(env, fn prefix_length: (CelString) -> Result<CelInt>)
}

fn quantities(env: &mut Env) -> Result<(), DeclarationError> {
    cel::add_overload!(env, fn is_quantity: (CelString) -> CelBool)?;
    cel::add_overload!(env, fn quantity: (CelString) -> Result<CelString>)?;
    cel::add_member_overload!(env, fn is_integer: (CelString) -> Result<CelBool>)?;
    cel::add_member_overload!(env, fn as_integer: (CelString) -> Result<CelInt>)?;
    cel::add_member_overload!(env, fn as_approximate_float: (CelString) -> Result<CelDouble>)?;
    cel::add_member_overload!(env, fn sign: (CelString) -> Result<CelInt>)?;
    cel::add_member_overload!(env, fn add: (CelString, CelString) -> Result<CelString>)?;
    cel::add_member_overload!(env, fn add_int: (CelString, CelInt) -> Result<CelString>, name = "add")?;
    cel::add_member_overload!(env, fn sub: (CelString, CelString) -> Result<CelString>)?;
    cel::add_member_overload!(env, fn sub_int: (CelString, CelInt) -> Result<CelString>, name = "sub")?;
    cel::add_member_overload!(env, fn compare_to: (CelString, CelString) -> Result<CelInt>)?;
    cel::add_member_overload!(env, fn is_less_than: (CelString, CelString) -> Result<CelBool>)?;
    cel::add_member_overload!(env, fn is_greater_than: (CelString, CelString) -> Result<CelBool>)
}

/// The parts of a URL: scheme, authority without user, path.
struct Parts<'a> {
    scheme: &'a str,
    host: &'a str,
    path: &'a str,
}

/// An absolute URL, or an absolute path alone, as Go's `url.ParseRequestURI` takes it.
fn parts(text: &str) -> Option<Parts<'_>> {
    if text.is_empty() || text.contains(|c: char| c.is_ascii_control() || c == ' ') {
        return None;
    }
    let before_query = text.split('?').next().unwrap_or_default();
    if before_query.starts_with('/') {
        return Some(Parts { scheme: "", host: "", path: before_query });
    }
    let (scheme, rest) = before_query.split_once(':')?;
    let scheme_fits = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    if !scheme_fits {
        return None;
    }
    let Some(rest) = rest.strip_prefix("//") else {
        return rest.starts_with('/').then_some(Parts { scheme, host: "", path: rest });
    };
    let at = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(at);
    let host = authority.rsplit('@').next().unwrap_or_default();
    let port = host.rsplit_once(':').map_or("", |(_, port)| port);
    let bracketed = host.starts_with('[');
    if !bracketed && host.contains(':') && !port.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(Parts { scheme, host, path })
}

fn is_url(text: &CelString<'_>) -> CelBool {
    parts(text).is_some().into()
}

fn url(text: &CelString<'_>) -> Result<CelString<'static>, ExecutionError> {
    match parts(text) {
        Some(_) => Ok(text.to_string().into()),
        None => {
            Err(ExecutionError::function_error("url", format!("URL parse error: {text:?} is not absolute")))
        }
    }
}

fn part(text: &str, of: impl Fn(Parts<'_>) -> String) -> CelString<'static> {
    parts(text).map(of).unwrap_or_default().into()
}

fn get_scheme(text: &CelString<'_>) -> CelString<'static> {
    part(text, |parts| parts.scheme.to_lowercase())
}

fn get_host(text: &CelString<'_>) -> CelString<'static> {
    part(text, |parts| parts.host.to_owned())
}

/// Host and port apart; an IPv6 address loses its brackets.
fn host_and_port(host: &str) -> (&str, &str) {
    if let Some((address, rest)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (address, rest.strip_prefix(':').unwrap_or_default());
    }
    host.rsplit_once(':').unwrap_or((host, ""))
}

fn get_hostname(text: &CelString<'_>) -> CelString<'static> {
    part(text, |parts| host_and_port(parts.host).0.to_owned())
}

fn get_port(text: &CelString<'_>) -> CelString<'static> {
    part(text, |parts| host_and_port(parts.host).1.to_owned())
}

fn get_escaped_path(text: &CelString<'_>) -> CelString<'static> {
    part(text, |parts| parts.path.to_owned())
}

/// An address as Go's `netip` with Kubernetes' strictness: no zone, no IPv4 inside IPv6.
fn parse_ip(text: &str) -> Option<IpAddr> {
    let address: IpAddr = text.parse().ok()?;
    match address {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => None,
        address => Some(address),
    }
}

fn wanted_ip(function: &str, text: &str) -> Result<IpAddr, ExecutionError> {
    parse_ip(text).ok_or_else(|| {
        ExecutionError::function_error(
            function,
            format!("IP Address {text:?} parse error during conversion from string"),
        )
    })
}

fn parse_cidr(text: &str) -> Option<IpNet> {
    let (address, length) = text.split_once('/')?;
    // A length has no sign and no leading zero.
    if length.starts_with('+') || (length.len() > 1 && length.starts_with('0')) {
        return None;
    }
    IpNet::new(parse_ip(address)?, length.parse().ok()?).ok()
}

fn wanted_cidr(function: &str, text: &str) -> Result<IpNet, ExecutionError> {
    parse_cidr(text).ok_or_else(|| {
        ExecutionError::function_error(
            function,
            format!("network address parse error during conversion from string: {text:?}"),
        )
    })
}

fn is_ip(text: &CelString<'_>) -> CelBool {
    parse_ip(text).is_some().into()
}

fn ip(text: &CelString<'_>) -> Result<CelString<'static>, ExecutionError> {
    Ok(wanted_ip("ip", text)?.to_string().into())
}

fn is_canonical(text: &CelString<'_>) -> Result<CelBool, ExecutionError> {
    let address = wanted_ip("ip.isCanonical", text)?;
    Ok((address.to_string() == text.inner()).into())
}

fn family(text: &CelString<'_>) -> Result<CelInt, ExecutionError> {
    Ok(CelInt::from(if wanted_ip("family", text)?.is_ipv4() { 4 } else { 6 }))
}

fn is_unspecified(text: &CelString<'_>) -> Result<CelBool, ExecutionError> {
    Ok(wanted_ip("isUnspecified", text)?.is_unspecified().into())
}

fn is_loopback(text: &CelString<'_>) -> Result<CelBool, ExecutionError> {
    Ok(wanted_ip("isLoopback", text)?.is_loopback().into())
}

fn link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

fn is_link_local_unicast(text: &CelString<'_>) -> Result<CelBool, ExecutionError> {
    Ok(link_local(wanted_ip("isLinkLocalUnicast", text)?).into())
}

fn is_link_local_multicast(text: &CelString<'_>) -> Result<CelBool, ExecutionError> {
    let found = match wanted_ip("isLinkLocalMulticast", text)? {
        IpAddr::V4(v4) => v4.octets().starts_with(&[224, 0, 0]),
        IpAddr::V6(v6) => v6.segments().first().is_some_and(|first| first & 0xff0f == 0xff02),
    };
    Ok(found.into())
}

fn is_global_unicast(text: &CelString<'_>) -> Result<CelBool, ExecutionError> {
    let address = wanted_ip("isGlobalUnicast", text)?;
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    let special =
        address.is_unspecified() || address.is_loopback() || address.is_multicast() || link_local(address);
    Ok((!special && !broadcast).into())
}

fn is_cidr(text: &CelString<'_>) -> CelBool {
    parse_cidr(text).is_some().into()
}

fn cidr(text: &CelString<'_>) -> Result<CelString<'static>, ExecutionError> {
    Ok(wanted_cidr("cidr", text)?.to_string().into())
}

fn contains_ip(network: &CelString<'_>, address: &CelString<'_>) -> Result<CelBool, ExecutionError> {
    let network = wanted_cidr("containsIP", network)?;
    Ok(network.contains(&wanted_ip("containsIP", address)?).into())
}

fn contains_cidr(network: &CelString<'_>, other: &CelString<'_>) -> Result<CelBool, ExecutionError> {
    let network = wanted_cidr("containsCIDR", network)?;
    Ok(network.contains(&wanted_cidr("containsCIDR", other)?).into())
}

fn address_of(network: &CelString<'_>) -> Result<CelString<'static>, ExecutionError> {
    Ok(wanted_cidr("ip", network)?.addr().to_string().into())
}

fn masked(network: &CelString<'_>) -> Result<CelString<'static>, ExecutionError> {
    Ok(wanted_cidr("masked", network)?.trunc().to_string().into())
}

fn prefix_length(network: &CelString<'_>) -> Result<CelInt, ExecutionError> {
    Ok(CelInt::from(i64::from(wanted_cidr("prefixLength", network)?.prefix_len())))
}

/// A quantity in nanos. `None` for what is not one, or too large.
fn parse_quantity(text: &str) -> Option<i128> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && !"+-.".contains(c)).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let (negative, number) = match number.strip_prefix('-') {
        Some(number) => (true, number),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let plain = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if !plain(whole) || !plain(fraction) || (whole.is_empty() && fraction.is_empty()) || fraction.len() > 18 {
        return None;
    }
    let mantissa: i128 = format!("0{whole}{fraction}").parse().ok()?;
    let parts = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let (times, divided) = multiplier(suffix)?;
    let scaled = mantissa.checked_mul(NANO)?.checked_mul(times)?;
    let by = parts.checked_mul(divided)?;
    // Finer parts are rounded up, away from zero.
    let nanos = scaled.checked_add(by - 1)? / by;
    Some(if negative { -nanos } else { nanos })
}

/// What a suffix multiplies by and divides by.
fn multiplier(suffix: &str) -> Option<(i128, i128)> {
    let binary = |power: u32| 1024_i128.checked_pow(power).map(|times| (times, 1));
    let decimal = |power: i32| {
        let factor = 10_i128.checked_pow(power.unsigned_abs())?;
        Some(if power < 0 { (1, factor) } else { (factor, 1) })
    };
    match suffix {
        "" => Some((1, 1)),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        exponent => {
            let power = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            (-18..=18).contains(&power).then(|| decimal(power)).flatten()
        }
    }
}

fn wanted_quantity(function: &str, text: &str) -> Result<i128, ExecutionError> {
    parse_quantity(text).ok_or_else(|| {
        ExecutionError::function_error(
            function,
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        )
    })
}

fn of_nanos(nanos: i128) -> CelString<'static> {
    let text = if nanos % NANO == 0 { (nanos / NANO).to_string() } else { format!("{nanos}n") };
    text.into()
}

fn is_quantity(text: &CelString<'_>) -> CelBool {
    parse_quantity(text).is_some().into()
}

fn quantity(text: &CelString<'_>) -> Result<CelString<'static>, ExecutionError> {
    wanted_quantity("quantity", text).map(of_nanos)
}

fn is_integer(text: &CelString<'_>) -> Result<CelBool, ExecutionError> {
    let nanos = wanted_quantity("isInteger", text)?;
    Ok((nanos % NANO == 0 && i64::try_from(nanos / NANO).is_ok()).into())
}

fn as_integer(text: &CelString<'_>) -> Result<CelInt, ExecutionError> {
    let nanos = wanted_quantity("asInteger", text)?;
    let whole = (nanos % NANO == 0).then(|| i64::try_from(nanos / NANO).ok()).flatten();
    whole
        .map(CelInt::from)
        .ok_or_else(|| ExecutionError::function_error("asInteger", "cannot convert value to integer"))
}

fn as_approximate_float(text: &CelString<'_>) -> Result<CelDouble, ExecutionError> {
    let nanos = wanted_quantity("asApproximateFloat", text)?;
    let float: f64 = format!("{nanos}e-9").parse().unwrap_or(f64::NAN);
    Ok(CelDouble::from(float))
}

fn sign(text: &CelString<'_>) -> Result<CelInt, ExecutionError> {
    let sign = wanted_quantity("sign", text)?.signum();
    Ok(CelInt::from(i64::try_from(sign).unwrap_or_default()))
}

fn sum(function: &str, one: i128, other: Option<i128>) -> Result<CelString<'static>, ExecutionError> {
    let sum = other.and_then(|other| one.checked_add(other));
    sum.map(of_nanos).ok_or_else(|| ExecutionError::function_error(function, "quantity overflow"))
}

fn add(one: &CelString<'_>, other: &CelString<'_>) -> Result<CelString<'static>, ExecutionError> {
    sum("add", wanted_quantity("add", one)?, Some(wanted_quantity("add", other)?))
}

fn add_int(one: &CelString<'_>, other: &CelInt) -> Result<CelString<'static>, ExecutionError> {
    sum("add", wanted_quantity("add", one)?, i128::from(*other.inner()).checked_mul(NANO))
}

fn sub(one: &CelString<'_>, other: &CelString<'_>) -> Result<CelString<'static>, ExecutionError> {
    sum("sub", wanted_quantity("sub", one)?, wanted_quantity("sub", other)?.checked_neg())
}

fn sub_int(one: &CelString<'_>, other: &CelInt) -> Result<CelString<'static>, ExecutionError> {
    sum("sub", wanted_quantity("sub", one)?, i128::from(*other.inner()).checked_mul(-NANO))
}

fn compared(function: &str, one: &str, other: &str) -> Result<Ordering, ExecutionError> {
    Ok(wanted_quantity(function, one)?.cmp(&wanted_quantity(function, other)?))
}

fn compare_to(one: &CelString<'_>, other: &CelString<'_>) -> Result<CelInt, ExecutionError> {
    Ok(CelInt::from(match compared("compareTo", one, other)? {
        Ordering::Less => -1,
        Ordering::Equal => 0,
        Ordering::Greater => 1,
    }))
}

fn is_less_than(one: &CelString<'_>, other: &CelString<'_>) -> Result<CelBool, ExecutionError> {
    Ok((compared("isLessThan", one, other)? == Ordering::Less).into())
}

fn is_greater_than(one: &CelString<'_>, other: &CelString<'_>) -> Result<CelBool, ExecutionError> {
    Ok((compared("isGreaterThan", one, other)? == Ordering::Greater).into())
}

fn pattern(function: &str, text: &str) -> Result<regex::Regex, ExecutionError> {
    let built = regex::RegexBuilder::new(text).size_limit(PATTERN_BYTES).build();
    built.map_err(|error| ExecutionError::function_error(function, format!("Illegal regex: {error}")))
}

fn find(text: &CelString<'_>, wanted: &CelString<'_>) -> Result<CelString<'static>, ExecutionError> {
    let found = pattern("find", wanted)?.find(text).map(|found| found.as_str().to_owned());
    Ok(found.unwrap_or_default().into())
}

fn find_all(text: &CelString<'_>, wanted: &CelString<'_>) -> Result<CelList<'static>, ExecutionError> {
    find_some(text, wanted, &CelInt::from(-1))
}

fn find_some(
    text: &CelString<'_>,
    wanted: &CelString<'_>,
    most: &CelInt,
) -> Result<CelList<'static>, ExecutionError> {
    let most = usize::try_from(*most.inner()).unwrap_or(usize::MAX);
    let pattern = pattern("findAll", wanted)?;
    let found = pattern.find_iter(text).take(most);
    let found = found.map(|found| Box::new(CelString::from(found.as_str().to_owned())) as Box<dyn Val>);
    Ok(found.collect::<Vec<_>>().into())
}
