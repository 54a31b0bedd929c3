// What a page knows of its visitor: the key in its URL, and what it may remember until its window is closed.

/** The key in the fragment of the URL, or null. It never leaves the browser but as an Authorization header. */
export function givenKey() {
  // A "+" is one, and no space.
  return new URLSearchParams(location.hash.slice(1).replaceAll("+", "%2B")).get("key");
}

/** What was remembered under this name; null if nothing was, or where the browser lets pages remember nothing. */
export function remembered(name) {
  try {
    return sessionStorage.getItem(name);
  } catch {
    return null;
  }
}

/** Remembers `value`, or forgets it if it is null. Where that is not allowed, it holds until the page goes. */
export function remember(name, value) {
  try {
    if (value === null) sessionStorage.removeItem(name);
    else sessionStorage.setItem(name, value);
  } catch {
    // The page goes on without.
  }
}
