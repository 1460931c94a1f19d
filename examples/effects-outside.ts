/** An order with effects outside Redis, one of each kind. What is not on `tx` may be done again: each step is made to bear it. */
import type { Dedup } from 'redis-once';

/** Takes idempotency keys: the same key again is the same charge. */
export interface Payments {
  charge(request: { readonly idempotencyKey: string; readonly cents: number }): Promise<{ readonly chargeId: string }>;
}

/** Refuses the older: `UPDATE orders SET …, fence = $fence WHERE id = $id AND fence <= $fence`. */
export interface Orders {
  /** @returns whether a row was changed */
  save(id: string, row: { readonly chargeId: string }, fence: number): Promise<boolean>;
}

/** Can do neither. */
export interface Mailer {
  send(mail: Mail): Promise<void>;
}

export interface Order {
  readonly id: string;
  readonly cents: number;
  readonly address: string;
}

export interface Mail {
  readonly id: string;
  readonly to: string;
  readonly text: string;
}

export function placeOrder(
  dedup: Dedup,
  services: { readonly payments: Payments; readonly orders: Orders },
  { id, cents, address }: Order,
): Promise<{ chargeId: string }> {
  return dedup.scope('orders').once(id, async ({ tx, fence, signal, idempotencyKey }) => {
    const { chargeId } = await services.payments.charge({ idempotencyKey: idempotencyKey('charge'), cents });
    // Who has lost the lease stops here, as soon as it is known; who does not know it yet is refused by the store.
    signal.throwIfAborted();
    if (!(await services.orders.save(id, { chargeId }, fence))) throw new Error('A later attempt has saved this order');
    // The mail is not sent here: that it is to be sent is committed, once, with the record.
    tx.xadd('outbox', '*', 'id', idempotencyKey('mail'), 'to', address, 'text', `Charged: ${chargeId}`);
    return { chargeId };
  });
}

export class MailUnsure extends Error {}

/**
 * Sends a mail of the outbox, by a key of its own: copies of the entry are not sent. One that died after `send` and before
 * its record may have sent it: whoever takes over decides between a second mail and none.
 *
 * @throws MailUnsure where the mail may have been sent, and `resend` is false: nothing is stored, so that the same call with `resend` sends it
 */
export async function sendMail(
  dedup: Dedup,
  mailer: Mailer,
  mail: Mail,
  { resend }: { readonly resend: boolean },
): Promise<'sent'> {
  return dedup.scope('mails').once(mail.id, async ({ attempt }): Promise<'sent'> => {
    if (attempt > 1 && !resend) throw new MailUnsure(`Mail ${mail.id} may have been sent`);
    await mailer.send(mail);
    return 'sent';
  });
}
