/** Express 4, under a name of its own: as far as the tests use it, its types are those of 5. */
declare module 'express4' {
  import express from 'express';
  export default express;
}
