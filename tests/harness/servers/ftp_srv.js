// ftp_srv.js MODULES ROOT PORT USER PASSWORD plain|explicit|implicit PEM IDLE|- SESSIONS|- ADDRESS
const [modules, root, port, user, password, tls, pem, idle, , address] = process.argv.slice(2);
const { FtpSrv } = require(modules + '/ftp-srv');
const fs = require('fs');
const options = {
  url: (tls === 'implicit' ? 'ftps' : 'ftp') + '://' + (address.includes(':') ? '[' + address + ']' : address) + ':' + port,
  pasv_url: address,
  pasv_min: 20000,
  pasv_max: 60000,
  timeout: idle === '-' ? 0 : +idle * 1000,
};
if (tls !== 'plain') options.tls = { key: fs.readFileSync(pem), cert: fs.readFileSync(pem) };
const server = new FtpSrv(options);
server.on('login', (login, accept, refuse) =>
  login.username === user && login.password === password ? accept({ root }) : refuse(new Error('bad login')));
server.on('client-error', () => {});
process.on('uncaughtException', error => console.error('uncaught', error.message));
server.listen();
