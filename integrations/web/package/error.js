// SPDX-License-Identifier: Apache-2.0

/** What a user can do something about; the message is one or two sentences. */
export class LMBError extends Error {
  name = 'LMBError';
}
